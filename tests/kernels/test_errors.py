"""What the kernel refuses, in words; and that mutated models never crash it."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from tests.support.kernels.models import Shape, make_feeds, make_model, open_session
from tests.support.kernels.reference import Attributes
from tests.support.paths import ROOT

ATTRIBUTES = [
    ({"block_size": 0}, "`block_size` must be from 1"),
    ({"window": -1}, "`window` must be from 0"),
    ({"num_heads": 0}, "`num_heads` must be from 1"),
    ({"kv_num_heads": 3}, "`kv_num_heads` must divide `num_heads`"),
    ({"precision": "float64"}, "`precision` must be float32 or int8; got float64"),
    ({"num_heads": 5, "kv_num_heads": 1}, "a multiple of its 5 heads"),
]
INPUTS = [
    ("key", np.zeros((1, 50, 32), np.float32), "must have one length"),
    ("query", np.zeros((60, 32), np.float32), "rank"),
    ("block_scores", np.zeros((1, 2, 4, 5), np.float32), "must have shape [1, 2, 4, 4]"),
    ("top_p", np.zeros(3, np.float32), "must have 1 or 2 values; got 3"),
    ("max_blocks", np.zeros(2, np.int64), "must have 1 value; got 2"),
    ("key_mask", np.zeros((1, 59), bool), "must have one length"),
    ("value", np.zeros((2, 60, 32), np.float32), "must share their batch"),
]


def refuse(library: Path, attributes: dict[str, object], feeds: dict[str, np.ndarray]) -> str:
    with pytest.raises(Exception, match=r".") as raised:
        open_session(library, make_model(attributes)).run(None, feeds)
    return str(raised.value)


@pytest.mark.parametrize(("change", "words"), ATTRIBUTES)
def test_attributes_out_of_range_are_refused(library: Path, change: dict[str, object], words: str) -> None:
    attributes = {**asdict(Attributes(num_heads=2, kv_num_heads=2)), **change}
    assert words in refuse(library, attributes, make_feeds(Shape(60, 60), 16))


@pytest.mark.parametrize(("name", "array", "words"), INPUTS)
def test_inputs_that_do_not_fit_are_refused(library: Path, name: str, array: np.ndarray, words: str) -> None:
    feeds = {**make_feeds(Shape(60, 60), 16), name: array}
    assert words in refuse(library, asdict(Attributes(num_heads=2, kv_num_heads=2)), feeds)


@pytest.mark.parametrize("name", ["query", "key", "value", "block_scores", "top_p", "max_blocks", "key_mask"])
@pytest.mark.parametrize("more", [True, False])
def test_a_wrong_rank_is_refused_by_the_kernel(library: Path, name: str, more: bool) -> None:
    feeds = dict(make_feeds(Shape(60, 60), 16))
    feeds[name] = feeds[name][None] if more else np.array(feeds[name].ravel()[0])
    model = make_model(asdict(Attributes(num_heads=2, kv_num_heads=2)), ranked=False)
    with pytest.raises(Exception, match=rf"`{name}` must have rank"):
        open_session(library, model).run(None, feeds)


def test_causal_needs_equal_lengths(library: Path) -> None:
    attributes = asdict(Attributes(num_heads=2, kv_num_heads=2, is_causal=1))
    assert "With `is_causal`" in refuse(library, attributes, make_feeds(Shape(60, 50), 16))


@pytest.mark.parametrize("seed", range(3))
def test_mutated_models_never_crash(library: Path, seed: int) -> None:
    path = os.pathsep.join(str(ROOT / part) for part in (".", "export", "runtime"))
    done = subprocess.run(
        [sys.executable, "-m", "tests.kernels.hostile", str(library), str(seed), "300"],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 0, (done.returncode, done.stderr[-2000:])
    assert "refused" in done.stdout
