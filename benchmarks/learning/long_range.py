"""One more made task beside those of made_tasks.py: ListOps, an expression whose value is asked for."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from edgesparse_runtime.data.series_set import SeriesSet

FloatArray = npt.NDArray[np.float32]
# Training and test series of a made task, and optimizer steps on it.
TRAINING_SERIES, TEST_SERIES, MAX_STEPS = 2000, 500, 600
LIST_OPERATORS = ("max", "min", "median", "sum")


def list_operations(count: int, steps: int, seed: int) -> SeriesSet:
    """Nested max, min, median and sum modulo ten over digits (ListOps; Nangia and Bowman 2018): the result.

    A symbol lasts four steps; the rest of the window is silence. Channels: digit, operator number, opening,
    closing.
    """
    rng = np.random.default_rng(seed)
    hold = 4
    data = np.zeros((count, 4, steps), dtype=np.float32)
    answers = []
    for x in data:
        symbols, value = _expression(rng, steps // hold, depth=4)
        for i, (channel, level) in enumerate(symbols):
            x[channel, i * hold : (i + 1) * hold] = level
        x += 0.02 * rng.standard_normal(x.shape).astype(np.float32)
        answers.append(value)
    return _series_set(data, answers, "list operations")


def _expression(rng: np.random.Generator, room: int, depth: int) -> tuple[list[tuple[int, float]], int]:
    """Symbols (channel, level) and value of an expression that takes at most `room` symbols."""
    if depth == 0 or room < 8:
        digit = int(rng.integers(10))
        return [(0, (digit + 1) / 10)], digit
    operator = int(rng.integers(len(LIST_OPERATORS)))
    symbols: list[tuple[int, float]] = [(1, (operator + 1) / len(LIST_OPERATORS)), (2, 1.0)]
    values = []
    arguments = int(rng.integers(2, 6))
    for _ in range(arguments):
        inner, value = _expression(rng, (room - 3) // arguments, depth - 1)
        symbols += inner
        values.append(value)
    symbols.append((3, 1.0))
    result = (max(values), min(values), int(np.median(values)), sum(values) % 10)[operator]
    return symbols, result


def _series_set(data: FloatArray, answers: list[int], source: str) -> SeriesSet:
    names = tuple(f"channel {i}" for i in range(data.shape[1]))
    return SeriesSet(list(data), names, np.array([str(a) for a in answers]), source=source)


TASKS: dict[str, Callable[[int, int, int], SeriesSet]] = {
    "listops": list_operations,
}
