"""`inspect_data`: everything that a person should see before a model is trained."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edgesparse_runtime.data.column_names import unit_of
from edgesparse_runtime.data.inspection.finding import Finding, Piece, Pieces
from edgesparse_runtime.data.inspection.leaks import leak_findings
from edgesparse_runtime.data.inspection.load import Loaded, load
from edgesparse_runtime.data.inspection.signals import signal_findings
from edgesparse_runtime.data.inspection.times import time_findings
from edgesparse_runtime.data.readers import ReadOptions
from edgesparse_runtime.data.series_set import Role


@dataclass(frozen=True)
class Channel:
    """Figures of a channel over all recordings; NaN values aside."""

    name: str
    unit: str | None
    low: float
    mean: float
    high: float
    missing: float


@dataclass(frozen=True)
class Inspection:
    """What was understood, and what looks wrong.

    Attributes:
        path: of the data.
        roles: of the columns.
        channels: with figures.
        forms: how text files write their tables, with the number of files.
        time: in words; "" = rows are steps.
        period: seconds between steps of most recordings.
        classes: recordings by class and group; "" = none is named.
        steps: of the shortest and the longest recording.
        findings: what stops the verbs first.
        pieces: the recordings, for a picture.
    """

    path: Path
    files: int
    roles: tuple[Role, ...]
    channels: tuple[Channel, ...]
    forms: dict[str, int]
    time: str
    period: float | None
    classes: dict[str, dict[str, int]]
    steps: tuple[int, int]
    findings: list[Finding]
    notes: list[str]
    pieces: list[Piece] = field(repr=False, default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "data": str(self.path),
            "files": self.files,
            "recordings": len(self.pieces),
            "steps": {"shortest": self.steps[0], "longest": self.steps[1]},
            "roles": [vars(role) for role in self.roles],
            "channels": [vars(channel) for channel in self.channels],
            "forms": self.forms,
            "time": self.time,
            "period": self.period,
            "classes": self.classes,
            "findings": [finding.to_dict() for finding in self.findings],
            "notes": self.notes,
        }


def inspect_data(path: Path, options: ReadOptions | None = None) -> Inspection:
    """Read a file or folder of recordings and look at it.

    Raises:
        InputError: nothing of it can be read.
    """
    options = options or ReadOptions()
    loaded = load(path, options)
    data = loaded.data
    timed, period = time_findings(data)
    findings = [
        *loaded.findings,
        *_class_findings(loaded, options),
        *timed,
        *signal_findings(data),
        *leak_findings(data),
    ]
    lengths = [piece.values.shape[1] for piece in data.pieces]
    return Inspection(
        path=path,
        files=loaded.files,
        roles=loaded.roles,
        channels=tuple(_channel(data, i) for i in range(len(data.channels))),
        forms=loaded.forms,
        time=_time_words(loaded),
        period=period,
        classes=_classes(data),
        steps=(min(lengths, default=0), max(lengths, default=0)),
        findings=sorted(findings, key=lambda finding: not finding.stops),
        notes=loaded.notes,
        pieces=data.pieces,
    )


def _class_findings(loaded: Loaded, options: ReadOptions) -> list[Finding]:
    """Too few classes to train on."""
    labels = {piece.label for piece in loaded.data.pieces} - {""}
    if options.task == "forecasting" or not options.needs_labels or len(labels) > 1:
        return []
    if any(finding.kind == "labels" for finding in loaded.findings) or not loaded.data.pieces:
        return []
    text = (
        "no recording has a class, and training needs one for each: a sub-folder per class, labels.csv or a "
        "label column"
    )
    if labels:
        text = f"all recordings are of class {next(iter(labels))}; training needs two"
    return [Finding("labels", "", "", text, stops=True)]


def _channel(data: Pieces, i: int) -> Channel:
    values = np.concatenate([piece.values[i] for piece in data.pieces])
    known = values[~np.isnan(values)].astype(np.float64)
    low, mean, high = (known.min(), known.mean(), known.max()) if len(known) else (0.0, 0.0, 0.0)
    missing = 1 - len(known) / max(1, len(values))
    return Channel(data.channels[i], unit_of(data.channels[i]), float(low), float(mean), float(high), missing)


def _time_words(loaded: Loaded) -> str:
    clock = loaded.clock
    if clock is None:
        return ""
    zone = {"": "", "local": ", no zone", "several": ", several zones"}.get(
        clock.zone, f", zone {clock.zone}"
    )
    order = {"dmy": ", day before month", "mdy": ", month before day"}.get(clock.order, "")
    unit = f" of {clock.unit:g} s" if clock.kind == "number" else ""
    return f"{clock.kind}{unit}{order}{zone}, as {loaded.first_time}"


def _classes(data: Pieces) -> dict[str, dict[str, int]]:
    table: dict[str, Counter[str]] = {}
    for piece in data.pieces:
        table.setdefault(piece.label, Counter())[piece.group] += 1
    return {label: dict(sorted(counts.items())) for label, counts in sorted(table.items())}
