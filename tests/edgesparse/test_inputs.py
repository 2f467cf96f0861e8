"""What the public functions accept, and one sentence for everything else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import edgesparse
from edgesparse.config import TrainingConfig
from edgesparse.inputs import to_series
from edgesparse_runtime.errors import InputError
from tests.support.synthetic import make_series, tiny_config

X = np.zeros((4, 2, 50), np.float32)
SETTINGS = TrainingConfig()


def test_arrays_with_labels_become_a_series_set() -> None:
    data = to_series(X, SETTINGS, [0, 1, 0, 1], ["a", "a", "b", "b"])
    assert data.channels == ("channel_0", "channel_1")
    assert list(data.labels) == ["0", "1", "0", "1"]  # type: ignore[arg-type]
    assert list(data.groups) == ["a", "a", "b", "b"]  # type: ignore[arg-type]
    unequal = to_series([X[0], X[1, :, :30]], SETTINGS, ["p", "q"])
    assert [x.shape for x in unequal.series] == [(2, 50), (2, 30)]
    target = to_series(X, TrainingConfig(task="regression"), [1, 2, 3, 4]).labels
    assert target is not None and target.dtype == np.float64


def test_the_mask_of_a_masked_array_counts() -> None:
    masked = np.ma.masked_greater(X + np.arange(50, dtype=np.float32), 40.0)
    assert np.isnan(to_series(masked, SETTINGS, list("abab")).series[0][:, 41:]).all()


@pytest.mark.parametrize(
    ("data", "labels", "words"),
    [
        (X, [0, 1], r"`labels` must hold one entry per series \(4\); got an array of shape \[2\]"),
        (X[0], [0, 1], r"got a series of shape \[50\]"),
        (3, None, "got int 3"),
        (None, None, "got NoneType None"),
        (b"pump.csv", None, "got bytes"),
        ([["x"]], None, "of numbers"),
        ([], None, "got none"),
        (make_series(4), [0, 1, 0, 1], "go with arrays"),
        (Path("no/such/file.csv"), None, "no such file"),
    ],
)
def test_other_data_end_in_one_sentence(data: object, labels: object, words: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=words):
        edgesparse.train(data, tiny_config(), tmp_path, labels=labels)  # type: ignore[arg-type]


def test_labels_in_the_place_of_the_configuration_are_noticed(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Give labels of arrays as `labels=`"):
        edgesparse.train(X, np.zeros(4), tmp_path)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="`out` must be the path of a folder"):
        edgesparse.train(X, labels=[0, 1, 0, 1])
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is a file"):
        edgesparse.train(X, out=str(tmp_path / "file"), labels=[0, 1, 0, 1])


def test_str_paths_serve_for_data_and_run(tmp_path: Path) -> None:
    data = make_series(8)
    np.savez(tmp_path / "d.npz", X=data.to_batch(), y=data.labels)
    run = edgesparse.train(str(tmp_path / "d.npz"), tiny_config(epochs=1), str(tmp_path / "run"), quiet=True)
    assert run.facts.series == 8
    assert edgesparse.load_run(str(tmp_path / "run")).facts == run.facts
