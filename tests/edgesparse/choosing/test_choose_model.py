"""Which model `--model auto` takes, on outputs that are given: nothing is trained here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from edgesparse.choosing import choose_model as module
from edgesparse.choosing.choose_model import choose_model
from edgesparse.config import ModelConfig, RunConfig
from edgesparse.training.data import data_facts
from edgesparse_runtime.data.series_set import SeriesSet
from tests.support.synthetic import make_series

CONFIG = RunConfig(model=ModelConfig(stem=2))


def logits(data: SeriesSet, wrong: int) -> Tensor:
    """Right for all series but the first `wrong`."""
    facts = data_facts(data, CONFIG.training)
    target = torch.tensor([facts.classes.index(str(label)) for label in np.asarray(data.labels)])
    target[:wrong] = 1 - target[:wrong]
    return 3.0 * torch.nn.functional.one_hot(target, 2).float()


@pytest.mark.parametrize(
    ("skip_wrong", "full_wrong", "taken"), [(2, 0, "full"), (1, 1, "small"), (0, 1, "small")]
)
def test_the_transformer_is_taken_where_it_adds_something(
    monkeypatch: pytest.MonkeyPatch, skip_wrong: int, full_wrong: int, taken: str
) -> None:
    data = make_series(24, steps=20)

    def fake(held: SeriesSet, config: RunConfig, parts: Any, *, quiet: bool) -> Iterator[Any]:
        for fold in parts:
            part = held.take(fold)
            model = SimpleNamespace(
                training=False,
                variable_length=True,
                eval=lambda: None,
                train=lambda mode: None,
                skip_alone=lambda window, part=part: logits(part, skip_wrong),
            )
            fitted = SimpleNamespace(model=model, facts=data_facts(part, config.training))
            yield fold, fitted, logits(part, full_wrong)

    monkeypatch.setattr(module, "out_of_fold", fake)
    config, choice = choose_model(data, CONFIG)
    assert choice.model == taken
    assert config.model.layers == (2 if taken == "full" else 0)
    assert choice.gain == pytest.approx((skip_wrong - full_wrong) * 4 / 24)
    assert choice.low <= choice.gain <= choice.high and choice.series == 24
    assert "out of fold the transformer adds" in choice.reason
    assert replace(config, model=CONFIG.model) == CONFIG
