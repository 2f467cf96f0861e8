"""Made tasks whose answer lies in two places far apart, so that attention within a band cannot give it.

Every token is like thousands of others; only what two distant tokens have in common, or what one says about
the other, decides the class. Neither a neighborhood nor a window's mean and spread, which every token is
told, holds anything of the answer: all bursts have mean zero and the same energy. Nor does a sum of what each
place says alone rank the classes. But of the four combinations that two places have, a threshold on such a
sum can be right in one to three: a model that knows nothing can have an accuracy of 0.25, 0.5 or 0.75.

match    two marked bursts, each of one of two pitches: same or different?
product  two marked swings, up and down or down and up: is the product of their signs positive? (the adding
         task, with the product in place of the sum, because a sum can be read off a bag of tokens)
recall   two bursts, one of either pitch, each with a sign; at the end one pitch is asked for: which sign?

Lessons teach in short windows and are not tested. No single pitch of `match` hints at anything. The signs of
`recall` cancel in any mean over the bursts: nothing hints that signs matter until pitches are compared, nor
that pitches do until signs are read.

match-pitch   two marked bursts of one pitch: which?
recall-pitch  two bursts of one pitch, signs as ever, before the end: is it the pitch asked for?
recall-short  `recall` with the bursts anywhere before the end, not in the first quarter alone
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from edgesparse_runtime.data.series_set import SeriesSet

Signal = npt.NDArray[np.float32]
BURST = 32
# Two: these tasks ask how far a model sees, not how much it can tell apart. Whole cycles a burst: with a part
# of one, mean and energy would differ by pitch.
CYCLES = (2, 6)
# A plus goes up and then down by the same: a window's mean, which every token is told, would give signs away.
SWING = np.repeat(np.array([1.0, -1.0], dtype=np.float32), BURST // 2)


def make(task: str, steps: int, count: int, *, seed: int) -> SeriesSet:
    """`count` labeled series of `steps` steps."""
    known = TASKS | LESSONS
    rng = np.random.default_rng([seed, steps, sorted(known).index(task)])
    channels, one = known[task]
    series, labels = [], []
    for _ in range(count):
        x, label = one(rng, steps)
        series.append(x)
        labels.append(label)
    return SeriesSet(series, channels, np.array(labels), source=f"{task}-{steps}")


def _places(rng: np.random.Generator, steps: int, count: int, apart: int) -> npt.NDArray[np.int64]:
    """Starts of `count` bursts on a grid of `BURST` steps, in time order; the first and last far apart."""
    cells = steps // BURST - 1
    while True:
        chosen = np.sort(rng.choice(cells, count, replace=False))
        if (chosen[-1] - chosen[0]) * BURST >= apart:
            return np.asarray(chosen * BURST)


def _match(rng: np.random.Generator, steps: int) -> tuple[Signal, str]:
    x = 0.1 * rng.standard_normal((2, steps)).astype(np.float32)
    same = rng.random() < 0.5
    pitches = rng.permutation(2)
    if same:
        pitches[1] = pitches[0]
    _mark(x, rng, _places(rng, steps, 2, 3 * steps // 4), pitches)
    return x, "same" if same else "different"


def _match_pitch(rng: np.random.Generator, steps: int) -> tuple[Signal, str]:
    x = 0.1 * rng.standard_normal((2, steps)).astype(np.float32)
    pitch = int(rng.integers(2))
    _mark(x, rng, _places(rng, steps, 2, 0), np.array([pitch, pitch]))
    return x, "same" if pitch else "different"


def _mark(
    x: Signal, rng: np.random.Generator, places: npt.NDArray[np.int64], pitches: npt.NDArray[np.int64]
) -> None:
    for start, pitch in zip(places, pitches, strict=True):
        x[0, start : start + BURST] += _wave(pitch, rng)
        x[1, start : start + BURST] += 1.0


def _recall(rng: np.random.Generator, steps: int) -> tuple[Signal, str]:
    return _asked_sign(rng, steps, steps // 4)


def _recall_short(rng: np.random.Generator, steps: int) -> tuple[Signal, str]:
    return _asked_sign(rng, steps, steps - BURST)


def _asked_sign(rng: np.random.Generator, steps: int, within: int) -> tuple[Signal, str]:
    pitches, signs = rng.permutation(2), rng.permutation([1.0, -1.0])
    asked = int(rng.integers(2))
    x = _with_query(rng, _places(rng, within, 2, 0), pitches, signs, pitches[asked], steps)
    return x, "plus" if signs[asked] > 0 else "minus"


def _recall_pitch(rng: np.random.Generator, steps: int) -> tuple[Signal, str]:
    pitch, asked = rng.integers(2, size=2)
    places = _places(rng, steps - BURST, 2, 0)
    x = _with_query(rng, places, np.array([pitch, pitch]), rng.permutation([1.0, -1.0]), asked, steps)
    return x, "plus" if pitch == asked else "minus"


def _with_query(
    rng: np.random.Generator,
    places: npt.NDArray[np.int64],
    pitches: npt.NDArray[np.int64],
    signs: npt.NDArray[np.float64],
    asked: int,
    steps: int,
) -> Signal:
    """Bursts of these pitches and signs, and at the end one of the pitch that is asked for."""
    x = 0.1 * rng.standard_normal((3, steps)).astype(np.float32)
    for start, pitch, sign in zip(places, pitches, signs, strict=True):
        x[0, start : start + BURST] += _wave(pitch, rng)
        x[1, start : start + BURST] += sign * SWING
    start = steps - 2 * BURST
    x[0, start : start + BURST] += _wave(asked, rng)
    x[2, start : start + BURST] += 1.0
    return x


def _product(rng: np.random.Generator, steps: int) -> tuple[Signal, str]:
    x = 0.1 * rng.standard_normal((2, steps)).astype(np.float32)
    signs = rng.choice([-1.0, 1.0], 2)
    for start, sign in zip(_places(rng, steps, 2, 3 * steps // 4), signs, strict=True):
        x[0, start : start + BURST] += sign * SWING
        x[1, start : start + BURST] += 1.0
    return x, "positive" if signs.prod() > 0 else "negative"


def _wave(pitch: int, rng: np.random.Generator) -> Signal:
    place = 2 * np.pi * CYCLES[pitch] / BURST * np.arange(BURST)
    wave: Signal = np.sin(place + rng.uniform(0, 2 * np.pi)).astype(np.float32)
    return wave


Task = tuple[tuple[str, ...], Callable[[np.random.Generator, int], tuple[Signal, str]]]
ASKING = ("signal", "sign", "asked")
TASKS: dict[str, Task] = {
    "match": (("signal", "marked"), _match),
    "product": (("signal", "marked"), _product),
    "recall": (ASKING, _recall),
}
# Of channels and classes as the task that they come before.
LESSONS: dict[str, Task] = {
    "match-pitch": (("signal", "marked"), _match_pitch),
    "recall-pitch": (ASKING, _recall_pitch),
    "recall-short": (ASKING, _recall_short),
}
