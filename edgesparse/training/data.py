"""Series as the training loop needs them: tensors, class numbers or standardized targets, and facts."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from edgesparse.config import TrainingConfig
from edgesparse.model.data_facts import DataFacts
from edgesparse_runtime.data.forecasting import estimate_season
from edgesparse_runtime.data.series_set import SeriesSet
from edgesparse_runtime.errors import InputError


def data_facts(data: SeriesSet, settings: TrainingConfig) -> DataFacts:
    """What the data say about the model that fits them."""
    source = data.source or "The data"
    forecast: dict[str, Any] = {}
    if data.labels is None:
        raise InputError(f"{source} must have labels to train on; there is no label column.")
    if not len(data):
        raise InputError(f"{source} must hold at least one series; there is none.")
    lengths = [x.shape[1] for x in data.series]
    classes: list[str] = []
    center, scale = 0.0, 1.0
    if settings.task == "classification":
        classes = [str(c) for c in np.unique(data.labels)]
        if len(classes) < 2:
            raise InputError(f"{source} must hold at least two classes; there is only {classes[0]}.")
    else:
        if settings.task == "forecasting":
            channel = settings.target or data.channels[0]
            forecast = {"horizon": data.labels.shape[1], "target_channel": channel}
            forecast["season"] = estimate_season(data, channel)
        try:
            values = np.asarray(data.labels, dtype=np.float64)
        except ValueError:
            raise InputError(f"{source} must have numbers as labels for regression.") from None
        center, scale = float(values.mean()), float(values.std()) or 1.0
    return DataFacts(
        source=Path(data.source).name,
        channels=list(data.channels),
        classes=classes,
        variable_length=not data.is_equal_length(),
        shortest=min(lengths),
        longest=max(lengths),
        series=len(data),
        target_center=center,
        target_scale=scale,
        **forecast,
    )


def data_warnings(data: SeriesSet, settings: TrainingConfig) -> list[str]:
    """What is odd about data that can be trained on: probably not what was meant, in a line each."""
    found = []
    for i, name in enumerate(data.channels):
        known = [x[i][~np.isnan(x[i])] for x in data.series]
        if not any(len(values) for values in known):
            found.append(f"channel {name} has no value in any series.")
        elif all(len(values) == 0 or values.min() == values.max() for values in known):
            found.append(f"channel {name} never moves within a series.")
    if data.labels is None or settings.task == "forecasting":
        return found
    values, counts = np.unique(data.labels, return_counts=True)
    if settings.task == "regression":
        if len(values) == 1:
            found.append(f"every target is {values[0]:g}: there is nothing to learn.")
    elif len(values) == len(data) > 2:
        found.append(f"{len(data)} series have {len(values)} classes: is this the label column?")
    elif (counts == 1).any():
        alone = [str(c) for c in values[counts == 1]]
        more = f" and {len(alone) - 3} more" if len(alone) > 3 else ""
        found.append(f"classes with one series only: {', '.join(alone[:3])}{more}.")
    return found


def to_tensor(data: SeriesSet) -> tuple[Tensor, Tensor]:
    """Windows [n, C, T] with NaN tails, and lengths [n]."""
    lengths = torch.tensor([x.shape[1] for x in data.series])
    return torch.from_numpy(data.to_batch()), lengths


def to_targets(data: SeriesSet, facts: DataFacts, settings: TrainingConfig) -> Tensor:
    """Class numbers [n], or standardized targets [n] or [n, horizon]."""
    assert data.labels is not None
    if settings.task == "classification":
        number = {name: i for i, name in enumerate(facts.classes)}
        unknown = sorted({str(label) for label in data.labels} - set(number))
        if unknown:
            raise InputError(f"{data.source} must hold known classes only; got {', '.join(unknown[:3])}.")
        return torch.tensor([number[str(label)] for label in data.labels])
    values = np.asarray(data.labels, dtype=np.float64)
    return torch.from_numpy(((values - facts.target_center) / facts.target_scale).astype(np.float32))


def class_weights(targets: Tensor, classes: int) -> Tensor | None:
    """Root of each class's rarity, mean 1 over the series; None for regression and for equal classes."""
    if not classes:
        return None
    counts = torch.bincount(targets, minlength=classes).clamp(min=1).float()
    if counts.max() <= 1.5 * counts.min():
        return None
    weights = counts.rsqrt()
    return weights / weights[targets].mean()


def spread(n: int, most: int) -> Tensor:
    """At most `most` of n indices, evenly spread."""
    return torch.arange(n) if n <= most else torch.linspace(0, n - 1, most).long()


def fingerprint(data: SeriesSet) -> str:
    """Hash of values, labels, groups and channel names: a run goes on with the data that it began with."""
    digest = hashlib.sha256(repr(data.channels).encode())
    for series in data.series:
        digest.update(repr(series.shape).encode() + np.ascontiguousarray(series).tobytes())
    for names in (data.labels, data.groups):
        digest.update(repr(None if names is None else [str(x) for x in names]).encode())
    return digest.hexdigest()[:16]
