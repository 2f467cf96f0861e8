"""Which model to use: every one against dense attention, paired by window and seed, by a stated rule.

1. A model is *not worse* where the 95 % interval of its accuracy less that of dense float32 lies above minus
   the margin; *worse* where it lies below zero; else n is too small to show either.
2. Of the models that are not worse and run faster than dense float32 on this machine (interval of the ratio
   of medians above 1), the one with the lowest median is used; dense float32 where there is none.
3. Where another model is better than that one, interval above zero, it is used instead; of several, the one
   with the highest accuracy.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from edgesparse_runtime.arrays import DoubleArray
from edgesparse_runtime.evaluation.bootstrap import bootstrap_interval

Clusters = npt.NDArray[np.str_] | None
# Of n windows that show no loss, up to this many in n may still be lost (95 %).
UNSEEN = 3.0


@dataclass(frozen=True)
class Measured:
    """One model at one precision.

    Attributes:
        right: 0 or 1 by seed, each [n].
        p50: milliseconds; None = not timed.
        faster: lower end of dense float32's median over this one's; None = not timed beside it.
        has_bundle: False = a rival that EdgeSparse does not export.
    """

    right: Mapping[int, DoubleArray]
    p50: float | None
    faster: float | None
    has_bundle: bool = True

    @property
    def accuracy(self) -> float:
        """Over windows and seeds."""
        return float(np.mean(list(self.right.values())))


@dataclass(frozen=True)
class Share:
    """A share, or a difference of two, with its 95 % interval; None = it cannot be given.

    Attributes:
        n: windows.
        groups: machines or recordings, where the interval counts these.
        seeds: trainings; the interval counts them too.
    """

    value: float
    low: float | None
    high: float | None
    n: int
    groups: int | None
    seeds: int

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def mean_share(right: Mapping[int, DoubleArray], clusters: Clusters) -> Share:
    """Accuracy over windows and seeds; all right, or none, leaves room for the rule of three."""
    values = np.stack(list(right.values()), axis=1)
    found = _share(values, clusters)
    if found.low is None or found.high is None:
        return found
    unseen = UNSEEN / (found.groups or found.n)
    low = max(0.0, min(found.low, 1.0 - unseen)) if values.all() else found.low
    high = found.high if values.any() else min(1.0, max(found.high, unseen))
    return replace(found, low=low, high=high)


def compare_right(a: Mapping[int, DoubleArray], b: Mapping[int, DoubleArray], clusters: Clusters) -> Share:
    """Accuracy of A less that of B on the same windows, over the seeds that both have.

    Where no window got worse, or none better, that end lies at least 3 in n away (the rule of three): that
    nothing was lost among n does not mean that nothing ever is.
    """
    seeds = sorted(set(a) & set(b))
    values = np.stack([a[s] - b[s] for s in seeds], axis=1)
    found = _share(values, clusters)
    if found.low is None or found.high is None:
        return found
    by_window = values.mean(axis=1)
    unseen = UNSEEN / (found.groups or found.n)
    low = found.low if (by_window < 0).any() else min(found.low, found.value - unseen)
    high = found.high if (by_window > 0).any() else max(found.high, found.value + unseen)
    return replace(found, low=low, high=high)


def _share(values_nS: DoubleArray, clusters: Clusters) -> Share:
    seeds = values_nS.shape[1]
    rng = np.random.default_rng(0)

    def over_seeds(draws: npt.NDArray[Any]) -> npt.NDArray[Any]:
        picks = rng.integers(0, seeds, (len(draws), 1, seeds))
        return np.asarray(np.take_along_axis(draws, picks, axis=2).mean(axis=(1, 2)))

    low, high = bootstrap_interval(values_nS, over_seeds, clusters=clusters)
    groups = None if clusters is None else len(np.unique(clusters))
    mean, n = float(values_nS.mean()), len(values_nS)
    if math.isnan(low):
        return Share(mean, None, None, n, groups, seeds)
    return Share(mean, low, high, n, groups, seeds)


def decide(
    models: Mapping[str, Measured], reference: str, margin: float, clusters: Clusters
) -> dict[str, Any]:
    """What the rule says: each model against the reference, the one to use, and why.

    Args:
        reference: name of the dense float32 model.
        margin: of accuracy that may be lost.
    """
    base = models[reference]
    rows = {}
    for name, model in models.items():
        difference = compare_right(model.right, base.right, clusters)
        state = "reference" if name == reference else _state(difference, margin)
        rows[name] = {
            "difference": difference.to_dict(),
            "state": state,
            "needed": _needed(difference, margin) if state == "not shown" else None,
        }
    equal = [name for name, row in rows.items() if row["state"] == "not worse"]
    faster = [name for name in equal if (models[name].faster or 0.0) > 1.0]
    fastest = min(faster, key=lambda name: _milliseconds(models[name]), default=reference)
    better = {}
    for name, model in models.items():
        found = compare_right(model.right, models[fastest].right, clusters)
        if name != fastest and found.low is not None and found.low > 0:
            better[name] = found.to_dict()
    use = fastest
    why = "fastest" if faster else "dense is fastest" if equal else "none shown"
    if better:
        use = max(better, key=lambda name: models[name].accuracy)
        why = "better"
    return {
        "margin": margin,
        "reference": reference,
        "models": rows,
        "fastest": fastest,
        "better": better,
        "use": use,
        "why": why,
        "has_bundle": models[use].has_bundle,
    }


def _state(difference: Share, margin: float) -> str:
    if difference.low is None or difference.high is None:
        return "not shown"
    if difference.low >= -margin:
        return "not worse"
    return "worse" if difference.high < 0 else "not shown"


def _needed(difference: Share, margin: float) -> int | None:
    """Windows that would show it if the difference stayed; None where more would not help."""
    room = margin + difference.value
    if difference.low is None or room <= 0:
        return None
    return math.ceil(difference.n * ((difference.value - difference.low) / room) ** 2)


def _milliseconds(model: Measured) -> float:
    return math.inf if model.p50 is None else model.p50
