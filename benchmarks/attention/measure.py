"""Times contenders interleaved and gives the ratio of medians with a 95 % bootstrap interval."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.attention.case import Case, Contender
from benchmarks.attention.kernel_programs import profile_phases
from benchmarks.attention.ours import make_body, make_native
from benchmarks.attention.rivals import make_fused_dense, make_ort_sparse, make_torch_dense, make_torch_flex
from benchmarks.support.interleaved import find_ratio, time_interleaved
from edgesparse_runtime.engine import LIBRARY_NAME

MOST_ROUNDS = 400
# With several threads, another library's idle workers spin for about this long before they sleep.
PAUSE_SECONDS = 0.004


@dataclass(frozen=True)
class Timed:
    """Median milliseconds, achieved GFLOP/s over all threads, and the error of one contender."""

    ms: float
    gflops: float
    error: float
    agrees: bool


def time_contenders(
    contenders: Sequence[Contender], *, seconds: float, least: int, pause: float
) -> NDArray[np.float64]:
    """Seconds per call, [rounds, contenders]."""
    calls = [contender.call for contender in contenders]
    return time_interleaved(calls, seconds=seconds, least=least, most=MOST_ROUNDS, pause=pause)


def timed(contender: Contender, times: NDArray[np.float64]) -> Timed:
    """The figures of one contender from its own column."""
    median = float(np.median(times))
    return Timed(1e3 * median, contender.flops / median / 1e9, contender.error, contender.agrees)


def against(rival: Contender, ours: Contender, times: NDArray[np.float64]) -> dict[str, Any]:
    """The rival's figures, and the speed-up over it where both outputs are right."""
    found: dict[str, Any] = {"against": ours.name, **asdict(timed(rival, times[:, 0]))}
    if rival.agrees and ours.agrees:
        found["speed_up"] = asdict(find_ratio(times[:, 1], times[:, 0]))
    return found


def measure(case: Case, library: str, *, seconds: float, least: int = 6) -> dict[str, Any]:
    """Fused dense attention, our float32 and our int8 kernel, interleaved.

    Returns `ours` (a `Timed` a precision), `rivals` with `fused dense`, and the ratios `int8_over_dense` and
    `int8_over_float32`, null where an output is not right.
    """
    dense = make_fused_dense(case)
    float32, _ = make_native(case, library)
    int8, _ = make_native(case, library, precision="int8")
    pause = PAUSE_SECONDS if case.threads > 1 else 0.0
    times = time_contenders((dense, float32, int8), seconds=seconds, least=least, pause=pause)
    right = dense.agrees and float32.agrees and int8.agrees
    return {
        "ours": {x.name: asdict(timed(x, times[:, i])) for i, x in ((1, float32), (2, int8))},
        "rivals": {dense.name: against(dense, float32, times)},
        "int8_over_dense": asdict(find_ratio(times[:, 2], times[:, 0])) if right else None,
        "int8_over_float32": asdict(find_ratio(times[:, 2], times[:, 1])) if right else None,
    }


def measure_rivals(case: Case, library: str, *, seconds: float) -> dict[str, Any]:
    """Every other rival interleaved with our kernel in the form it is compared with, `seconds` for each.

    A rival that does not run here has `not_available` and a reason.
    """
    float32, kept = make_native(case, library)
    causal, causal_kept = make_native(case, library, causal=True)
    makers: dict[str, tuple[Callable[[], Contender | str], Contender]] = {
        "function body": (lambda: make_body(case), float32),
        "torch sdpa": (lambda: make_torch_dense(case), float32),
        "torch flex": (lambda: make_torch_flex(case, kept), float32),
        "ort sparse": (lambda: make_ort_sparse(case, causal_kept), causal),
    }
    found: dict[str, Any] = {}
    pause = PAUSE_SECONDS if case.threads > 1 else 0.0
    for name, (make, ours) in makers.items():
        rival = make()
        if isinstance(rival, str):
            found[name] = {"not_available": rival}
        else:
            times = time_contenders((rival, ours), seconds=seconds, least=3, pause=pause)
            found[name] = against(rival, ours, times)
    return found


def measure_all(case: Case, build: Path, *, seconds: float) -> dict[str, Any]:
    """Everything the table shows of a case; phases on one thread only, where they add up."""
    library = str(build / LIBRARY_NAME)
    found: dict[str, Any] = {
        "case": {**asdict(case), "kept": case.kept},
        **measure(case, library, seconds=seconds),
    }
    found["rivals"] |= measure_rivals(case, library, seconds=seconds / 4)
    if case.threads == 1:
        found["phases"] = {x: profile_phases(build, case, x) for x in ("float32", "int8")}
    return found
