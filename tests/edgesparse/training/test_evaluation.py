"""What a trained model predicts depends on each series alone."""

from __future__ import annotations

import torch

from edgesparse.training.data import Windows, to_tensor
from edgesparse.training.evaluation import predict
from edgesparse.training.run_folder import Run
from edgesparse_runtime.data.series_set import SeriesSet


def test_lengths_run_apart_where_padding_is_not_masked(tiny_run: Run, series: SeriesSet) -> None:
    assert not tiny_run.model.variable_length
    data = series.take(range(7))  # type: ignore[arg-type]
    data = data.with_series([x[:, : (600, 333)[i % 2]] for i, x in enumerate(data.series)])
    together = predict(tiny_run.model, Windows(*to_tensor(data)))
    alone = torch.cat([predict(tiny_run.model, Windows(*to_tensor(data.take([i])))) for i in range(7)])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)
