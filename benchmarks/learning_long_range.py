"""Two more made tasks beside those of long_range.py, of held symbols: adding modulo two, and ListOps.

The answer is the interaction of distant places, not their sum: a model that sees a neighbourhood and averages
over places stays at chance, and neither a window's level nor its spread tells anything.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from edgesparse_runtime.series_set import SeriesSet

FloatArray = npt.NDArray[np.float32]
# Steps that a symbol is held for, so that a token of a few steps sees one.
HOLD = 16
NOISE = 0.1
LIST_OPERATORS = ("max", "min", "median", "sum")


def adding(count: int, steps: int, seed: int) -> SeriesSet:
    """Zeros and ones everywhere, two of them marked, one in each outer eighth: the sum of these modulo two.

    Channels: one a value, marked.
    """
    rng = np.random.default_rng([seed, steps])
    data = NOISE * rng.standard_normal((count, 3, steps)).astype(np.float32)
    answers = []
    places = steps // HOLD
    for x in data:
        shown = rng.integers(2, size=places)
        for place, value in enumerate(shown):
            x[value, place * HOLD : (place + 1) * HOLD] += 1
        marked = [int(rng.integers(places // 8)), places - 1 - int(rng.integers(places // 8))]
        for place in marked:
            x[2, place * HOLD : (place + 1) * HOLD] += 1
        answers.append(sum(int(shown[place]) for place in marked) % 2)
    return _series_set(data, answers, "adding")


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
    "adding": adding,
    "listops": list_operations,
}
