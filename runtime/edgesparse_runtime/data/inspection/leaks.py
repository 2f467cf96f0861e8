"""What tells the class without being its cause, and what makes a measured accuracy too good.

A mean that alone separates all classes may be the very thing to be detected, or a sensor that was moved
between two sessions: only a person can tell, so the finding asks.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections import Counter
from collections.abc import Sequence

import numpy as np

from edgesparse_runtime.data.inspection.finding import Finding, Piece, Pieces

# A separation that chance gives more often than this is none.
_CHANCE = 0.01
_LEAST_STEPS = 8


def leak_findings(data: Pieces) -> list[Finding]:
    """Single figures that tell the class, copies, and classes that only one group has."""
    labeled = [piece for piece in data.pieces if piece.label]
    findings = _copies(data.pieces, data.has_groups)
    if len({piece.label for piece in labeled}) < 2:
        return findings
    labels = [piece.label for piece in labeled]
    for channel, name in enumerate(data.channels):
        levels = [_mean(piece, channel) for piece in labeled]
        if tells_class(levels, labels, len(data.channels)):
            text = (
                f"its mean alone tells the class in all {len(labels)} recordings. If it is no effect of the "
                "class (a sensor that was moved, another day), leave it out with --channels"
            )
            findings.append(Finding("leak", "", name, text))
    lengths = [float(piece.values.shape[1]) for piece in labeled]
    if tells_class(lengths, labels, 1):
        text = "the length of a recording alone tells its class; cut windows of one length with --window"
        findings.append(Finding("length leak", "", "", text))
    findings += _order(data, labeled, labels)
    if data.has_groups:
        findings += _groups(labeled)
    return findings


def tells_class(values: Sequence[float], labels: Sequence[str], tries: int) -> bool:
    """Whether the classes lie apart on one axis, and chance would hardly do that in so many tries."""
    known = [(value, label) for value, label in zip(values, labels, strict=True) if not math.isnan(value)]
    if len(known) < len(values):
        return False
    highest: dict[str, float] = {}
    lowest: dict[str, float] = {}
    for value, label in known:
        highest[label] = max(value, highest.get(label, -math.inf))
        lowest[label] = min(value, lowest.get(label, math.inf))
    ends = sorted((lowest[label], highest[label]) for label in highest)
    if any(low <= high for (_, high), (low, _) in itertools.pairwise(ends)):
        return False
    return tries * _by_chance(list(Counter(labels).values())) < _CHANCE


def _by_chance(counts: Sequence[int]) -> float:
    """How often values without a meaning keep the classes apart: orders of classes over orders of labels."""
    orders = math.lgamma(len(counts) + 1) + sum(math.lgamma(n + 1) for n in counts)
    return math.exp(orders - math.lgamma(sum(counts) + 1))


def _mean(piece: Piece, channel: int) -> float:
    row = piece.values[channel]
    row = row[~np.isnan(row)]
    return float(row.mean(dtype=np.float64)) if len(row) else math.nan


def _order(data: Pieces, labeled: Sequence[Piece], labels: Sequence[str]) -> list[Finding]:
    """Classes that were recorded, or stand, one after the other."""
    if data.is_calendar:
        starts = [math.nan if p.times is None else float(np.nanmin(p.times)) for p in labeled]
        how = "recorded"
        cure = "alternate between classes when recording"
    elif not labeled[0].file:
        starts, how = [float(i) for i in range(len(labeled))], "stored"
        cure = "shuffle them before any split by position"
    else:
        return []
    if not tells_class(starts, labels, 1):
        return []
    text = f"the classes were {how} one after the other, so that the order alone tells them; {cure}"
    return [Finding("order leak", "", "", text)]


def _groups(labeled: Sequence[Piece]) -> list[Finding]:
    groups: dict[str, set[str]] = {}
    for piece in labeled:
        groups.setdefault(piece.label, set()).add(piece.group)
    if len({piece.group for piece in labeled}) < 2:
        return []
    findings = []
    for label, found in groups.items():
        if len(found) == 1:
            group = next(iter(found))
            text = (
                f"class {label} was recorded in group {group} only: a model may learn the group instead. "
                "Record it in another one"
            )
            findings.append(Finding("class in one group", "", "", text))
    return findings


def _copies(pieces: Sequence[Piece], has_groups: bool) -> list[Finding]:
    """Recordings of the same values."""
    found: dict[bytes, list[Piece]] = {}
    for piece in pieces:
        if piece.values.shape[1] >= _LEAST_STEPS:
            found.setdefault(hashlib.sha256(piece.values.tobytes()).digest(), []).append(piece)
    findings = []
    for same in found.values():
        if len(same) < 2:
            continue
        labels, groups = {p.label for p in same}, {p.group for p in same}
        where = " in several groups" if has_groups and len(groups) > 1 else ""
        where = " in several classes" if len(labels) > 1 else where
        names = " and ".join(piece.name for piece in same[:3])
        text = f"{len(same)} copies of one recording{where}; keep one"
        findings.append(Finding("copy", names, "", text, stops=len(labels) > 1))
    return findings
