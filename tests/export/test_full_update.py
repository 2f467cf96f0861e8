"""`update --mode full`: old and new windows together, held against the champion."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from edgesparse_runtime.bundle.read import Bundle, open_bundle
from edgesparse_runtime.cli.app import run as command
from edgesparse_runtime.data.readers import read_dataset, write_csv
from edgesparse_runtime.data.series_set import SeriesSet
from edgesparse_runtime.evaluation.verify import verify
from edgesparse_runtime.operation.update.reservoir import sample
from edgesparse_runtime.session import Session
from tests.export.test_small_model import small_bundle as small_bundle
from tests.support.synthetic import make_series


def moved(count: int, seed: int) -> SeriesSet:
    """The same classes on a line that runs at other speeds."""
    rng = np.random.default_rng(seed)
    data = make_series(count, steps=300, seed=seed)
    speeds = [0.9 if label == "fast" else 0.3 for label in np.asarray(data.labels)]
    return data.with_series(
        [
            (
                np.sin(np.arange(300) * speed + rng.uniform(0, 6, (2, 1)))
                + 0.2 * rng.standard_normal((2, 300))
            ).astype(np.float32)
            for speed in speeds
        ]
    )


def test_a_full_challenger_learns_the_new_line_and_keeps_the_old(
    small_bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_csv(tmp_path / "old.csv", make_series(24, steps=300, seed=3))
    write_csv(tmp_path / "new.csv", moved(24, 4))
    out, kept = tmp_path / "next.edgesparse", tmp_path / "kept.csv"
    words = ["update", small_bundle.path, tmp_path / "new.csv", "--mode", "full", "-o", out, "--json"]
    assert command([*map(str, words)]) == 2
    assert "`--mode full` needs the windows of before" in capsys.readouterr().err
    more = ["--old", tmp_path / "old.csv", "--margin", "0.2", "--keep", kept, "--keep-windows", 20]
    assert command([*map(str, [*words, *more])]) == 0
    update = json.loads(capsys.readouterr().out)["update"]
    assert update["mode"] == "full" and update["new"]["low"] > 0 and update["new"]["after"] > 0.9
    assert update["old"]["after"] > 0.9 and update["seen"] == {"fast": 24, "slow": 24}
    challenger = open_bundle(out)
    assert challenger.manifest["release"] == 1 and challenger.manifest["parent"] == small_bundle.sha256
    assert "monitor.json" not in challenger.manifest["files"] and all(c.holds for c in verify(challenger))
    session = Session(challenger)
    later = moved(12, 9)
    assert (session.predict_labels(later) == later.labels).mean() > 0.9
    # What was unlike all windows of the champion's training is known now.
    before, after = (Session(b).predict_with_unknown(later)[1] for b in (small_bundle, challenger))
    assert before is not None and after is not None
    assert (before > 1).mean() > 0.9 and (after > 1).mean() < 0.5
    labels = np.asarray(read_dataset(kept).labels)
    assert len(labels) == 20 and (labels == "fast").sum() == 10


def test_a_full_challenger_that_gains_nothing_is_not_written(
    small_bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, seed in (("old", 3), ("new", 5)):
        write_csv(tmp_path / f"{name}.csv", make_series(12, steps=300, seed=seed))
    out = tmp_path / "next.edgesparse"
    words = ["update", small_bundle.path, tmp_path / "new.csv", "--old", tmp_path / "old.csv"]
    assert command([*map(str, [*words, "--mode", "full", "-o", out, "--keep", tmp_path / "k.csv"])]) == 3
    assert "must be better on the new data" in capsys.readouterr().err
    assert not out.exists() and not (tmp_path / "k.csv").exists()


def test_each_window_seen_is_kept_with_the_same_chance() -> None:
    kept = np.zeros(120)
    for seed in range(400):
        names = np.repeat("a", 40)
        own = np.zeros(0, dtype=np.int64)
        seen: dict[str, int] = {}
        # Three updates of forty windows, ten places.
        for turn in range(3):
            old, new, seen = sample(np.repeat("a", len(own)), names, seen, 10, 1000 * turn + seed)
            own = np.concatenate([own[old], 40 * turn + new])
        kept[own] += 1
        assert len(own) == 10 and seen == {"a": 120}
    by_turn = kept.reshape(3, 40).sum(1) / 400
    assert np.allclose(by_turn, 10 / 3, atol=0.35)


def test_small_classes_are_kept_whole() -> None:
    old, new, seen = sample(np.repeat(["a", "b"], [2, 50]), np.repeat("b", 50), {}, 20, 0)
    assert {0, 1} <= set(old.tolist()) and len(old) + len(new) == 20 and seen == {"a": 2, "b": 100}


def test_what_to_keep_must_be_a_table(small_bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["update", str(small_bundle.path), "new.csv", "-o", "next.edgesparse", "--keep", "kept.npz"]
    assert command(words) == 2 and "`--keep` must name a file that ends in .csv" in capsys.readouterr().err
