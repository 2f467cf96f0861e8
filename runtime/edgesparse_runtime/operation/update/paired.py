"""`compare_paired`: two models on the same windows; what matters is where they differ."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgesparse_runtime.arrays import DoubleArray
from edgesparse_runtime.evaluation.bootstrap import bootstrap_interval

# -log(0.025).
_UNSEEN = 3.689


@dataclass(frozen=True)
class Paired:
    """A figure of two models; the challenger's is better by `difference`.

    Attributes:
        name: "accuracy" or "cross entropy".
        n: windows.
        groups: machines or recordings that the interval counts; None = it counts windows.
        before: of the champion; after: of the challenger.
        difference: what the challenger gains, with its 95 % interval [low, high]; NaN of one single group.
            Where no window is lost, the interval still holds the most losses that n windows may hide.
        gained: windows that only the challenger has right; lost: only the champion.
        p: chance of so uneven a split of these, if both were equally good (exact sign test, two-sided); it
            counts windows.
    """

    name: str
    n: int
    groups: int | None
    before: float
    after: float
    difference: float
    low: float
    high: float
    gained: int
    lost: int
    p: float

    def to_dict(self) -> dict[str, Any]:
        """For JSON; what cannot be given is null."""
        return {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in asdict(self).items()}

    @property
    def margin(self) -> float:
        """The smallest margin for which "no worse" is shown by these windows."""
        return max(0.0, -self.low)


def compare_right(
    before: npt.NDArray[np.bool_], after: npt.NDArray[np.bool_], clusters: npt.NDArray[np.str_] | None
) -> Paired:
    """Accuracy of two models.

    Args:
        before, after: is each decision right?
        clusters: machine or recording of each window, where several share one.
    """
    gained, lost = int((after & ~before).sum()), int((before & ~after).sum())
    return _compare(
        "accuracy", before.astype(np.float64), after.astype(np.float64), clusters, gained, lost, 1.0
    )


def compare_losses(before: DoubleArray, after: DoubleArray, clusters: npt.NDArray[np.str_] | None) -> Paired:
    """Cross entropy of two models; lower is better."""
    gained, lost = int((after < before).sum()), int((after > before).sum())
    return _compare("cross entropy", before, after, clusters, gained, lost, -1.0)


def _compare(
    name: str,
    before: DoubleArray,
    after: DoubleArray,
    clusters: npt.NDArray[np.str_] | None,
    gained: int,
    lost: int,
    sign: float,
) -> Paired:
    gain = sign * (after - before)
    low, high = bootstrap_interval(gain, clusters=clusters)
    if lost == 0:
        # Drawing from no losses gives none; in n windows so large a share is not seen once in 40 times.
        low = min(low, float(gain.mean()) - _UNSEEN / len(gain))
    return Paired(
        name,
        len(gain),
        None if clusters is None else len(np.unique(clusters)),
        float(before.mean()),
        float(after.mean()),
        float(gain.mean()),
        low,
        high,
        gained,
        lost,
        sign_test(gained, lost),
    )


def sign_test(gained: int, lost: int) -> float:
    """Two-sided exact p value of a fair coin."""
    n, least = gained + lost, min(gained, lost)
    if n == 0:
        return 1.0
    logs = [math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) for k in range(least + 1)]
    return min(1.0, 2 * sum(math.exp(x - n * math.log(2)) for x in logs))
