"""Two sessions with interleaved calls: the ratio, and whether they decide the same."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import numpy as np
import pytest

from edgesparse_runtime.bundle.read import Bundle, open_bundle
from edgesparse_runtime.bundle.write import rewrite_bundle
from edgesparse_runtime.errors import InputError
from edgesparse_runtime.measure.compare import COMPARED, LEAST_COMPARED, compare, compared_count
from edgesparse_runtime.measure.interleaved import find_ratio, time_interleaved
from edgesparse_runtime.session import Session


class Slow:
    """A model that takes a given number of milliseconds per call."""

    def __init__(self, milliseconds: float, seen: list[tuple[float, int]]) -> None:
        self.milliseconds, self.seen = milliseconds, seen

    def predict(self, window: np.ndarray, *, batch_size: int) -> None:
        self.seen.append((self.milliseconds, int(window[0])))
        time.sleep(self.milliseconds / 1e3)


def test_interleaved_calls_alternate_and_share_their_windows() -> None:
    seen: list[tuple[float, int]] = []
    windows = iter(range(1000))
    times = time_interleaved(
        *(Slow(4.0, seen), Slow(1.0, seen)),  # type: ignore[arg-type]
        lambda: np.array([next(windows)]),
        0.1,
    )
    counted = seen[6:]
    assert len(counted) == 2 * times.shape[1] >= 40
    pairs = [counted[i : i + 2] for i in range(0, len(counted), 2)]
    assert all(first[1] == second[1] for first, second in pairs)
    assert [first[0] for first, _ in pairs[:4]] == [1.0, 4.0, 1.0, 4.0]
    ratio = find_ratio(times)
    assert 1.5 < ratio.low <= ratio.value <= ratio.high < 4.5


def test_fewer_long_windows_are_compared() -> None:
    found = [compared_count(milliseconds) for milliseconds in (0.0, 40.0, 100.0, 2_000.0)]
    assert found == [COMPARED, COMPARED, 100, LEAST_COMPARED]


def test_bundles_precisions_engines_and_attention(shared_bundle: Bundle) -> None:
    native = Session(shared_bundle, precision="float32", threads=1)
    body = Session(shared_bundle, precision="float32", threads=1, engine="body")
    found = compare(native, body, length=200, batch=3, seconds=0.05)
    assert (found.length, found.batch, found.threads, found.compared) == (200, 3, 1, COMPARED)
    assert found.inputs == "the bundle's golden windows"
    assert found.equal == 1.0
    assert found.largest_difference is not None and found.largest_difference < 1e-4
    assert (found.a_engine, found.b_engine) == (native.engine, body.engine)
    # A bare file says nothing of classes; its bundle does.
    bare = Session(shared_bundle.path / "model.int8.onnx", threads=1)
    found = compare(bare, native, seconds=0.02)
    assert found.inputs == "the bundle's golden windows"
    assert found.equal is not None
    assert compare(bare, bare, length=100, seconds=0.02).equal is None


def test_other_classes_are_not_equal_decisions(shared_bundle: Bundle, tmp_path: Path) -> None:
    shutil.copytree(shared_bundle.path, tmp_path / "m.edgesparse")
    other = rewrite_bundle(open_bundle(tmp_path / "m.edgesparse"), {}, {"classes": ["slow", "fast"]})
    found = compare(
        Session(shared_bundle, precision="float32", threads=1),
        Session(other, precision="float32", threads=1),
        seconds=0.02,
    )
    assert (found.equal, found.largest_difference) == (None, 0.0)


def test_what_cannot_be_compared_is_refused(shared_bundle: Bundle) -> None:
    one, two = (Session(shared_bundle, threads=n) for n in (1, 2))
    with pytest.raises(InputError, match="must run on the same number of threads"):
        compare(one, two)
    for wrong in ({"batch": 0}, {"length": 0}, {"seconds": 0.0}, {"seconds": -1.0}):
        with pytest.raises(InputError, match=r"must be (at least 1|above 0)"):
            compare(one, one, **wrong)  # type: ignore[arg-type]
