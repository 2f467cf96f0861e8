"""Many calls with changing lengths: does memory grow, does the machine slow down?

onnxruntime keeps what it once allocated in an arena that grows with changing shapes, so memory rises while
lengths are new and must be flat afterwards.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from edgesparse_runtime.errors import InputError
from edgesparse_runtime.machine.peak_memory import resident_memory
from edgesparse_runtime.machine.progress import progress
from edgesparse_runtime.measure.inputs import Inputs, fit_length
from edgesparse_runtime.session import Session

# Until every length was there and the arena has its size.
WARMUP_SHARE = 0.1
LENGTHS = 16
SAMPLES = 400
# Times that are kept at the start and at the end: a list of all would itself be memory that grows.
KEPT = 1000


@dataclass(frozen=True)
class Soak:
    """Memory over many runs.

    Attributes:
        runs: calls that were made.
        seconds: that they took.
        lengths: steps of the shortest and the longest window.
        slope_mb: rise of memory over all runs, by a line fitted to everything after the first tenth.
        slope_low, slope_high: the slope's 95 % interval.
        resident: MB, first after warm-up and last.
        p50_first, p50_last: microseconds per step in the first and the last calls (a tenth of all, at most
            1,000): where the second is larger, the machine slowed down.
        course: [run, MB] along the way.
    """

    runs: int
    seconds: float
    lengths: tuple[int, int]
    slope_mb: float
    slope_low: float
    slope_high: float
    resident: tuple[float, float]
    p50_first: float
    p50_last: float
    course: list[tuple[int, float]]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def soak(session: Session, inputs: Inputs, *, runs: int | None = None, seconds: float | None = None) -> Soak:
    """Call until `runs` or `seconds` have passed, with lengths from a quarter of the inputs' up to it.

    Raises:
        InputError: neither bound is given, or this system does not tell a process's memory.
    """
    if (runs is None) == (seconds is None):
        raise InputError("A soak needs exactly one bound: `--soak` minutes or `--soak-runs`.")
    if resident_memory() is None:
        raise InputError("A soak reads resident memory from /proc, which this system does not have.")
    least = 1 if session.bundle is None else int(session.bundle.manifest["input"].get("min_steps", 1))
    shortest = max(least, inputs.length // 4)
    lengths = np.unique(np.linspace(shortest, inputs.length, LENGTHS).astype(int))
    random = np.random.default_rng(0)
    course: list[tuple[int, float]] = []
    first, last = np.full(KEPT, np.nan), np.full(KEPT, np.nan)
    # A run count is spread over the samples; with a time bound the interval adapts to the pace.
    every, done, start = max(1, (runs or 0) // SAMPLES), 0, time.perf_counter()
    next_sample = start
    with progress("Soak", SAMPLES if runs is None else runs) as bar:
        while (done < runs) if runs is not None else (time.perf_counter() - start < (seconds or 0)):
            length = int(random.choice(lengths))
            window = fit_length(inputs.next(), length)
            began = time.perf_counter()
            session.predict(window, batch_size=inputs.batch)
            rate = (time.perf_counter() - began) / length
            if done < KEPT:
                first[done] = rate
            last[done % KEPT] = rate
            done += 1
            is_due = done % every == 0 if runs is not None else began >= next_sample
            if is_due:
                course.append((done, resident_memory() or 0.0))
                next_sample = began + (seconds or 0) / SAMPLES
                bar.advance(every if runs is not None else 1, f"{course[-1][1]:.1f} MB")
    x, y = (np.array(values, dtype=np.float64) for values in zip(*course, strict=True))
    settled = x > WARMUP_SHARE * done
    slope, low, high = slope_with_interval(x[settled] / done, y[settled])
    tenth = min(KEPT, max(1, done // 10))
    return Soak(
        runs=done,
        seconds=time.perf_counter() - start,
        lengths=(int(lengths[0]), int(lengths[-1])),
        slope_mb=slope,
        slope_low=low,
        slope_high=high,
        resident=(float(y[settled][0]), float(y[-1])),
        p50_first=1e6 * float(np.median(first[:tenth])),
        p50_last=1e6 * float(np.nanmedian(np.roll(last, -(done % KEPT))[-tenth:])),
        course=[(int(a), round(float(b), 3)) for a, b in course],
    )


def slope_with_interval(x: np.ndarray, y: np.ndarray) -> tuple[float, float, float]:
    """Slope of the least-squares line and its 95 % interval from a bootstrap over blocks of samples.

    Neighboring samples of memory are alike, so whole blocks are drawn and not single samples.
    """
    if len(x) < 8:
        slope = float(np.polyfit(x, y, 1)[0]) if len(x) > 1 else 0.0
        return slope, slope, slope
    slope = float(np.polyfit(x, y, 1)[0])
    residual = y - np.polyval(np.polyfit(x, y, 1), x)
    size = max(2, len(x) // 20)
    random = np.random.default_rng(0)
    slopes = []
    for _ in range(400):
        starts = random.integers(0, len(x) - size + 1, -(-len(x) // size))
        noise = np.concatenate([residual[s : s + size] for s in starts])[: len(x)]
        slopes.append(np.polyfit(x, y - residual + noise, 1)[0])
    low, high = np.quantile(slopes, [0.025, 0.975])
    return slope, float(low), float(high)
