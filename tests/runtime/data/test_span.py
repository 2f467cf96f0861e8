"""Windows stated as a time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgesparse_runtime.data.readers import ReadOptions, read_dataset
from edgesparse_runtime.data.readers.span import Span
from edgesparse_runtime.errors import InputError


@pytest.mark.parametrize(
    ("text", "steps", "seconds"),
    [
        ("100", 100, None),
        ("1s", None, 1.0),
        ("500 ms", None, 0.5),
        ("2.5min", None, 150.0),
        ("1h", None, 3600.0),
    ],
)
def test_what_people_write(text: str, steps: int | None, seconds: float | None) -> None:
    span = Span.parse(text, "--window")
    assert (span.steps, span.seconds) == (steps, seconds)


@pytest.mark.parametrize("text", ["0", "-5", "1.5", "1d", "s", "", "1e3", "0s", "\u0661"])
def test_what_is_no_length(text: str) -> None:
    with pytest.raises(InputError, match="must be a number of steps, or a time such as 1s"):
        Span.parse(text, "--window")


def test_a_time_becomes_steps_of_the_data(tmp_path: Path) -> None:
    rows = [f"{0.02 * i:.2f},{i % 7}" for i in range(500)]
    table = tmp_path / "x.csv"
    table.write_text("time,a\n" + "\n".join(rows) + "\n")
    options = ReadOptions(
        needs_labels=False,
        window_time=Span.parse("1s", "--window"),
        stride_time=Span.parse("500ms", "--stride"),
    )
    found = read_dataset(table, options)
    assert (found.grid.window, found.grid.stride, len(found)) == (50, 25, 19)
    np.savez(tmp_path / "x.npz", X=np.zeros((2, 1, 100), np.float32) + np.arange(100))
    with pytest.raises(InputError, match=r"`--window` 1s needs a sampling rate, which .*x.npz does not have"):
        read_dataset(tmp_path / "x.npz", options)
    with pytest.raises(InputError, match="shorter than a step"):
        read_dataset(table, ReadOptions(needs_labels=False, window_time=Span.parse("1ms", "--window")))
