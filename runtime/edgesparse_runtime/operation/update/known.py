"""Data as an update takes them: features, targets and groups of new and old windows."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from edgesparse_runtime.arrays import DoubleArray, IndexArray
from edgesparse_runtime.bundle.read import Bundle
from edgesparse_runtime.data.series_set import SeriesSet
from edgesparse_runtime.errors import InputError
from edgesparse_runtime.evaluation.evaluate import independent_groups, known_labels
from edgesparse_runtime.operation.update.head import without_head
from edgesparse_runtime.operation.update.ridge import Examples, folds_of
from edgesparse_runtime.session import Session

_FEWEST = 10


@dataclass(frozen=True)
class Domain:
    """Windows of the new or the old data.

    Attributes:
        features: [n, features].
        targets: number of the class, [n].
        clusters: machine or recording, where several windows share one.
        unknown: score of each window over no threshold; None where the model does not tell.
    """

    features: DoubleArray
    targets: IndexArray
    clusters: npt.NDArray[np.str_] | None
    unknown: DoubleArray | None = None

    def __len__(self) -> int:
        return len(self.targets)


def features_of(bundle: Bundle, session: Session, data: SeriesSet) -> DoubleArray:
    """Pooled features of every window, by the model that will run.

    Raises:
        InputError: the model has no head of its own, or data that do not fit it.
    """
    return _features(bundle, session, data)[0]


def _features(bundle: Bundle, session: Session, data: SeriesSet) -> tuple[DoubleArray, DoubleArray | None]:
    """Features, and scores of unknown windows over no threshold.

    Raises:
        InputError: the model has no head of its own, or data that do not fit it.
    """
    session.prepare(data)
    name = bundle.model_file(session.precision)
    body = Session(
        name, content=without_head(bundle.read(name), f"{bundle.path}: {name}"), threads=session.threads
    )
    features, unknown = body.predict_with_unknown(data)
    return features.astype(np.float64), None if unknown is None else unknown.astype(np.float64)


def read_domain(bundle: Bundle, session: Session, data: SeriesSet) -> Domain:
    """Features and targets of labeled windows.

    Raises:
        InputError: too few, or a class that the model does not know.
    """
    assert data.labels is not None
    if len(data) < _FEWEST:
        raise InputError(f"{data.source} must have at least {_FEWEST} labeled windows; it has {len(data)}.")
    labels = known_labels(data.labels, bundle.classes, data.source)
    targets = np.array([bundle.classes.index(str(label)) for label in labels], dtype=np.int64)
    features, unknown = _features(bundle, session, data)
    return Domain(features, targets, independent_groups(data), unknown)


def merge(new: Domain, old: Domain | None) -> Examples:
    """New and old examples; both domains weigh the same. New ones come first."""
    parts = [new] if old is None else [new, old]
    groups = np.concatenate(
        [
            np.array([f"{i}/{k}" for k in range(len(part))] if part.clusters is None else part.clusters)
            for i, part in enumerate(parts)
        ]
    )
    targets = np.concatenate([part.targets for part in parts])
    total = sum(map(len, parts)) / len(parts)
    return Examples(
        np.concatenate([part.features for part in parts]),
        targets,
        np.concatenate([np.full(len(part), total / len(part)) for part in parts]),
        folds_of(groups, targets),
    )


def join(parts: list[SeriesSet]) -> SeriesSet:
    """Windows of several data as one; a machine of one is none of the other."""
    if len(parts) == 1:
        return parts[0]
    groups = np.concatenate([names_of(part, f"{i}/") for i, part in enumerate(parts)])
    return replace(
        parts[0],
        series=[x for part in parts for x in part.series],
        labels=np.concatenate([np.asarray(part.labels) for part in parts]),
        groups=groups,
        ids=None,
        recordings=None,
        starts=None,
    )


def names_of(part: SeriesSet, prefix: str = "") -> npt.NDArray[np.str_]:
    """Machine or recording of each window; its number where it has none."""
    named = independent_groups(part)
    names = np.arange(len(part)) if named is None else named
    return np.array([f"{prefix}{name}" for name in names], dtype=np.str_)
