"""Series as training needs them: tensors and targets, derived once, and facts about the data.

Shapes: `B` series, `C` channels, `T` steps.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from edgesparse.config import TrainingConfig
from edgesparse.model.data_facts import DataFacts
from edgesparse_runtime.arrays import FloatArray
from edgesparse_runtime.data.forecasting import estimate_season
from edgesparse_runtime.data.readers.forms.npz_windows import NpzWindows
from edgesparse_runtime.data.sensors.input_check import typical_of
from edgesparse_runtime.data.series_set import SeriesSet
from edgesparse_runtime.errors import InputError

# Values, and windows at least, that what is typical is looked up in where windows stay in their file.
MOST_TYPICAL, FEWEST_TYPICAL = 2**20, 128


@dataclass(frozen=True)
class Windows:
    """Raw windows as tensors.

    Attributes:
        windows_BCT: float32, NaN = missing; shorter windows end in NaN. Or in their file, read by rows.
        lengths_B: steps of each window without that padding.
    """

    windows_BCT: Tensor | NpzWindows
    lengths_B: Tensor

    def __len__(self) -> int:
        return len(self.windows_BCT)

    def rows(self, index: Tensor) -> Tensor:
        """The windows at `index`, cut at the longest of them."""
        longest = int(self.lengths_B[index].max())
        if isinstance(self.windows_BCT, NpzWindows):
            return torch.from_numpy(self.windows_BCT.read(index.numpy())[:, :, :longest])
        return self.windows_BCT[index, :, :longest]

    def sample(self, most: int) -> Tensor:
        """At most `most` windows, evenly spaced."""
        index = evenly_spaced(len(self), most)
        return self.rows(index) if isinstance(self.windows_BCT, NpzWindows) else self.windows_BCT[index]

    @property
    def is_stored(self) -> bool:
        """Whether the windows stay in their file, so that no more than a few may be held at once."""
        return isinstance(self.windows_BCT, NpzWindows)


@dataclass(frozen=True)
class TrainingSet(Windows):
    """Labeled windows of a run.

    Attributes:
        targets_B: class numbers [B], or standardized targets [B] or [B, horizon].
        series: what the tensors were made of, with labels and groups.
        facts: what the model must know of the data; those of the training series, for held-out series too.
        fingerprint: hash of the series: a run resumes only with the data that it was started with.
    """

    targets_B: Tensor
    series: SeriesSet
    facts: DataFacts
    fingerprint: str

    def part(self, index: Tensor, settings: TrainingConfig) -> TrainingSet:
        """The windows at `index`, of the same facts."""
        return training_set(self.series.take(index.numpy()), self.facts, settings)


def training_set(data: SeriesSet, facts: DataFacts, settings: TrainingConfig) -> TrainingSet:
    """Tensors and targets of labeled series.

    Raises:
        InputError: a class that `facts` does not know.
    """
    raw = to_windows(data)
    targets = to_targets(data, facts, settings)
    return TrainingSet(raw.windows_BCT, raw.lengths_B, targets, data, facts, fingerprint(data))


def in_memory(data: TrainingSet) -> TrainingSet:
    """The same windows, read from their file: of a part that is small."""
    rows = torch.from_numpy(data.series.to_batch())
    return replace(data, windows_BCT=rows)


def data_facts(data: SeriesSet, settings: TrainingConfig) -> DataFacts:
    """What a model that fits these data must know of them.

    Raises:
        InputError: no labels, no series, fewer than two classes, or targets that are no numbers.
    """
    source = data.source or "The data"
    forecast: dict[str, Any] = {}
    if data.labels is None:
        raise InputError(f"{source} must have labels to train on; there is no label column.")
    if not len(data):
        raise InputError(f"{source} must hold at least one series; it is empty.")
    lengths = data.lengths
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
        window=data.grid.window,
        stride=data.grid.stride,
        period=data.grid.period,
        zone=data.grid.zone,
        units=list(data.units) or [None] * len(data.channels),
        typical=[None if found is None else found.to_dict() for found in typical_of(_telling(data.series))],
        roles=[asdict(role) for role in data.roles],
        notes=list(data.notes),
        **forecast,
    )


def _telling(series: Sequence[FloatArray]) -> Sequence[FloatArray]:
    """Those that tell what is typical of all: of those that stay in their file some, evenly spaced."""
    if not isinstance(series, NpzWindows):
        return series
    most = max(FEWEST_TYPICAL, MOST_TYPICAL // (series.channels * int(series.lengths.max())))
    return list(series.take(evenly_spaced(len(series), most).numpy()))


def data_warnings(data: SeriesSet, settings: TrainingConfig) -> list[str]:
    """What is odd about data that can be trained on and is probably not what was meant, one line each."""
    found = []
    has_value, moves = np.zeros(len(data.channels), bool), np.zeros(len(data.channels), bool)
    for x in data.series:
        low, high = np.fmin.reduce(x, axis=1, initial=np.inf), np.fmax.reduce(x, axis=1, initial=-np.inf)
        has_value |= low <= high
        moves |= low < high
    for i, name in enumerate(data.channels):
        if not has_value[i]:
            found.append(f"channel {name} has no value in any series.")
        elif not moves[i]:
            found.append(f"channel {name} is constant within every series.")
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


def to_windows(data: SeriesSet) -> Windows:
    """Windows as tensors, or in their file where they are stored."""
    if isinstance(data.series, NpzWindows):
        return Windows(data.series, torch.tensor(data.lengths))
    return Windows(*to_tensor(data))


def to_tensor(data: SeriesSet) -> tuple[Tensor, Tensor]:
    """Windows [B, C, T] whose shorter ones end in NaN, and lengths [B]."""
    lengths = torch.tensor(data.lengths)
    return torch.from_numpy(data.to_batch()), lengths


def to_targets(data: SeriesSet, facts: DataFacts, settings: TrainingConfig) -> Tensor:
    """Class numbers [B], or standardized targets [B] or [B, horizon].

    Raises:
        InputError: no labels, or a class that `facts` does not know.
    """
    if data.labels is None:
        raise InputError(f"{data.source or 'The data'} must have labels; there is no label column.")
    if settings.task == "classification":
        number = {name: i for i, name in enumerate(facts.classes)}
        unknown = sorted({str(label) for label in data.labels} - set(number))
        if unknown:
            raise InputError(
                f"{data.source or 'The data'} must hold the classes of the training series only "
                f"({', '.join(facts.classes)}); got {', '.join(unknown[:3])}."
            )
        return torch.tensor([number[str(label)] for label in data.labels], dtype=torch.int64)
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


def evenly_spaced(n: int, most: int) -> Tensor:
    """At most `most` of n indices, evenly spaced."""
    return torch.arange(n) if n <= most else torch.linspace(0, n - 1, most).long()


def fingerprint(data: SeriesSet) -> str:
    """Hash of values, labels, groups and channel names."""
    digest = hashlib.sha256(repr(data.channels).encode())
    for series in data.series:
        digest.update(repr(series.shape).encode() + np.ascontiguousarray(series).tobytes())
    for names in (data.labels, data.groups):
        digest.update(repr(None if names is None else [str(x) for x in names]).encode())
    return digest.hexdigest()[:16]
