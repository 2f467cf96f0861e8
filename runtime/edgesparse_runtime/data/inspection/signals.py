"""Channels that are stuck, clipped, missing or constant.

Each rule compares a recording with the others: a temperature stays the same for a while by nature, and the
vibration beside it does not.
"""

from __future__ import annotations

import numpy as np

from edgesparse_runtime.arrays import FloatArray, IndexArray
from edgesparse_runtime.data.inspection.finding import Finding, Piece, Pieces
from edgesparse_runtime.data.readers.missing_codes import codes_of

# A channel with fewer values is a switch, which stays where it is by nature.
_FEWEST_VALUES = 10
# Equal values in a row that are a stuck sensor: so many, so much of the recording, and so many times the
# length that all but a hundredth of the runs of the channel have.
_LEAST_RUN, _RUN_SHARE, _RUN_FACTOR = 25, 0.05, 8
# Values at an end that are clipped: so many, and so many times what the next three levels have each.
_LEAST_CLIPPED, _CLIPPED_SHARE, _CLIPPED_FACTOR = 8, 0.01, 5
_MANY_MISSING = 0.1


def signal_findings(data: Pieces) -> list[Finding]:
    """What is wrong with single channels."""
    findings = []
    for channel, name in enumerate(data.channels):
        rows = [piece.values[channel] for piece in data.pieces]
        known = np.concatenate([row[~np.isnan(row)] for row in rows])
        distinct = np.unique(known)
        if len(distinct) <= 1:
            text = "it never changes and carries nothing; leave it out with --channels"
            findings.append(Finding("constant", "", name, text))
            continue
        findings += _missing(data, channel, rows)
        findings += _codes(data, channel, rows)
        if len(distinct) >= _FEWEST_VALUES:
            findings += _stuck(data, channel, rows)
            findings += _clipped(data, channel, rows)
    return findings


def runs(row: FloatArray) -> tuple[IndexArray, IndexArray]:
    """Where each run of equal values starts, and how long it is; missing values end a run."""
    if not len(row):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    starts = np.concatenate([[0], np.flatnonzero(row[1:] != row[:-1]) + 1])
    return starts, np.diff([*starts, len(row)])


def _stuck(data: Pieces, channel: int, rows: list[FloatArray]) -> list[Finding]:
    lengths = [runs(row) for row in rows]
    usual = float(np.quantile(np.concatenate([found[1] for found in lengths]), 0.99))
    findings = []
    for piece, row, (starts, counts) in zip(data.pieces, rows, lengths, strict=True):
        if not len(counts):
            continue
        longest = int(counts.argmax())
        length = int(counts[longest])
        if length < max(_LEAST_RUN, _RUN_SHARE * len(row), _RUN_FACTOR * usual):
            continue
        first = int(starts[longest])
        text = (
            f"stuck at {row[first]:.6g} for {length} steps from row {piece.lines[first]} on; fix the "
            "sensor, or empty these cells"
        )
        findings.append(Finding("stuck", piece.name, data.channels[channel], text))
    return findings


def _clipped(data: Pieces, channel: int, rows: list[FloatArray]) -> list[Finding]:
    findings = []
    for piece, row in zip(data.pieces, rows, strict=True):
        values, counts = np.unique(row[~np.isnan(row)], return_counts=True)
        if len(values) < _FEWEST_VALUES:
            continue
        for end, order in (("largest", slice(None, None, -1)), ("smallest", slice(None))):
            at, near = counts[order][0], counts[order][1:4].mean()
            if at < max(_LEAST_CLIPPED, _CLIPPED_SHARE * len(row), _CLIPPED_FACTOR * near):
                continue
            if _longest_at(row, values[order][0]) < 2 or _is_stuck_at(row, values[order][0], int(at)):
                continue
            level = f"the {end} value {values[order][0]:.6g}"
            text = (
                f"{at} of {len(row)} steps have {level}: clipped, unless that is where it rests; widen the "
                "sensor's range"
            )
            findings.append(Finding("clipped", piece.name, data.channels[channel], text))
    return findings


def _longest_at(row: FloatArray, value: float) -> int:
    starts, counts = runs(row)
    return int(counts[row[starts] == value].max(initial=0))


def _is_stuck_at(row: FloatArray, value: float, count: int) -> bool:
    """Most of these steps are one stretch: a sensor that is stuck there, not clipped."""
    return _longest_at(row, value) > 0.8 * count


def _missing(data: Pieces, channel: int, rows: list[FloatArray]) -> list[Finding]:
    findings = []
    for piece, row in zip(data.pieces, rows, strict=True):
        share = float(np.isnan(row).mean()) if len(row) else 0.0
        if share > _MANY_MISSING:
            first = piece.lines[int(np.isnan(row).argmax())]
            text = f"{share:.0%} of its values are missing, from row {first} on"
            findings.append(Finding("missing", piece.name, data.channels[channel], text))
    return findings


def _codes(data: Pieces, channel: int, rows: list[FloatArray]) -> list[Finding]:
    findings = []
    for code in codes_of(rows):
        is_there = [(row == np.float32(code)).any() for row in rows]
        holders = [piece for piece, is_held in zip(data.pieces, is_there, strict=True) if is_held]
        text = (
            f"holds {code:.7g}, far from all its other values, as loggers write where a value is missing; "
            "empty these cells if it is none"
        )
        findings.append(Finding("missing code", _names(holders), data.channels[channel], text))
    return findings


def _names(pieces: list[Piece]) -> str:
    shown = ", ".join(piece.name for piece in pieces[:3])
    return shown + (f" and {len(pieces) - 3} more" if len(pieces) > 3 else "")
