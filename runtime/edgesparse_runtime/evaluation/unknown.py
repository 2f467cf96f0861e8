"""How well a model tells windows that are none of its classes from those that it knows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgesparse_runtime.arrays import DoubleArray, FloatArray
from edgesparse_runtime.data.series_set import SeriesSet
from edgesparse_runtime.session import Session

# Windows of each kind that are made.
MADE = 100
# Share of good windows kept, at which the rate is given.
KEPT = 0.95


@dataclass(frozen=True)
class Told:
    """One kind of unknown windows.

    Attributes:
        auroc: chance that such a window scores higher than a good one.
        caught: share of them above the score that 95 % of the good windows stay below.
        unknown: share of them that the model calls unknown, by its own threshold.
        n: windows.
    """

    auroc: float
    caught: float
    unknown: float
    n: int

    def to_dict(self) -> dict[str, float]:
        return asdict(self)


@dataclass(frozen=True)
class UnknownEvaluation:
    """How well unknown windows are told.

    Attributes:
        refused: share of the good windows that the model calls unknown.
        n: good windows.
        kinds: figures by kind: made ones, and those that were given.
    """

    refused: float
    n: int
    kinds: dict[str, Told]

    def to_dict(self) -> dict[str, Any]:
        return {
            "refused": self.refused,
            "n": self.n,
            "kinds": {name: told.to_dict() for name, told in self.kinds.items()},
        }


def evaluate_unknown(
    session: Session, data: SeriesSet, given: SeriesSet | None = None
) -> UnknownEvaluation | None:
    """Figures on good windows and on unknown ones made of them; None where the model cannot tell.

    Args:
        data: good windows.
        given: windows that are none of the model's classes: another machine, a new fault.
    """
    good = session.predict_with_unknown(data)[1]
    if good is None or not len(good):
        return None
    base = data.take(np.unique(np.linspace(0, len(data) - 1, MADE).astype(int)))
    kinds = {}
    for name, make in FAR.items():
        rng = np.random.default_rng(0)
        windows = [make(x, rng).astype(np.float32) for x in base.series]
        kinds[name] = compare(_scores(session, base.with_series(windows)), good)
    if given is not None:
        kinds[given.source or "given"] = compare(_scores(session, given), good)
    return UnknownEvaluation(float((good > 1).mean()), len(good), kinds)


def compare(unknown_N: npt.NDArray[Any], good_M: npt.NDArray[Any]) -> Told:
    """Figures of scores of unknown windows beside those of good ones."""
    limit = np.quantile(good_M, KEPT)
    return Told(
        auroc(unknown_N, good_M),
        float((unknown_N > limit).mean()),
        float((unknown_N > 1).mean()),
        len(unknown_N),
    )


def auroc(high_N: npt.NDArray[Any], low_M: npt.NDArray[Any]) -> float:
    """Chance that one of the first exceeds one of the second; ties count half."""
    ordered = np.sort(low_M)
    below = np.searchsorted(ordered, high_N, "left") + np.searchsorted(ordered, high_N, "right")
    return float(below.mean() / (2 * len(low_M)))


def _scores(session: Session, data: SeriesSet) -> FloatArray:
    found = session.predict_with_unknown(data)[1]
    assert found is not None
    return found


def _middle(x_CT: FloatArray) -> DoubleArray:
    return np.asarray(np.nan_to_num(x_CT).mean(axis=1, keepdims=True), dtype=np.float64)


def _spread(x_CT: FloatArray) -> DoubleArray:
    return np.asarray(np.nan_to_num(x_CT).std(axis=1, keepdims=True), dtype=np.float64)


def _noise(x_CT: FloatArray, rng: np.random.Generator) -> DoubleArray:
    return np.asarray(_middle(x_CT) + 100 * _spread(x_CT) * rng.standard_normal(x_CT.shape))


def _rail(x_CT: FloatArray, rng: np.random.Generator) -> DoubleArray:
    """Every channel at ten times its largest value."""
    top = np.abs(np.nan_to_num(x_CT)).max(axis=1, keepdims=True)
    return np.repeat(10.0 * top + 1.0, x_CT.shape[1], axis=1).astype(np.float64)


def _sine(x_CT: FloatArray, rng: np.random.Generator) -> DoubleArray:
    """A tone as strong as the window, of 3 to 20 periods."""
    phase = 2 * np.pi * (rng.uniform(3, 20) * np.arange(x_CT.shape[1]) / x_CT.shape[1] + rng.uniform())
    return np.asarray(_middle(x_CT) + np.sqrt(2.0) * _spread(x_CT) * np.sin(phase))


# What no sensor in order gives, made of a good window.
FAR: dict[str, Callable[[FloatArray, np.random.Generator], npt.NDArray[Any]]] = {
    "zeros": lambda x, rng: np.zeros_like(x),
    "noise x 100": _noise,
    "rail": _rail,
    "sine": _sine,
}
