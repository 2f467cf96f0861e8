"""Gaps, rates and disorder in the times of recordings."""

from __future__ import annotations

import numpy as np

from edgesparse_runtime.data.grid import period_of
from edgesparse_runtime.data.inspection.finding import Finding, Piece, Pieces

# Steps are missing where two rows are so many periods apart.
_GAP = 1.5
_OTHER_RATE = 0.1
# A recording of under this share of the usual length was broken off.
_SHORT = 0.1


def piece_period(piece: Piece) -> float | None:
    """Seconds between steps; None = unknown, or uneven."""
    return None if piece.times is None or len(piece.times) < 3 else period_of(np.sort(piece.times))


def time_findings(data: Pieces) -> tuple[list[Finding], float | None]:
    """What is wrong with the times, and the period of most recordings."""
    findings = _short(data)
    periods = [piece_period(piece) for piece in data.pieces]
    known = [period for period in periods if period is not None]
    usual = float(np.median(known)) if known else None
    for piece, period in zip(data.pieces, periods, strict=True):
        if piece.times is None or len(piece.times) < 3 or usual is None:
            continue
        if period is None:
            text = "its times are not evenly spaced; resample it or leave it out"
            findings.append(Finding("rate", piece.name, "", text, stops=len(known) < len(periods)))
            continue
        if abs(period - usual) > _OTHER_RATE * usual:
            text = f"{1 / period:.4g} Hz, and the others have {1 / usual:.4g} Hz; resample it or leave it out"
            findings.append(Finding("rate", piece.name, "", text, stops=True))
        findings += _disorder(piece) + _gaps(piece, period)
    return findings, usual


def _short(data: Pieces) -> list[Finding]:
    lengths = [piece.values.shape[1] for piece in data.pieces]
    usual = float(np.median(lengths)) if lengths else 0.0
    text = "{} step(s), and the others have about {:.0f}; record it again or leave it out"
    return [
        Finding("short", piece.name, "", text.format(length, usual))
        for piece, length in zip(data.pieces, lengths, strict=True)
        if length < _SHORT * usual
    ]


def _disorder(piece: Piece) -> list[Finding]:
    assert piece.times is not None
    steps = np.diff(piece.times)
    back = np.flatnonzero(steps < 0)
    if not len(back):
        return []
    row = piece.lines[int(back[0]) + 1]
    text = (
        f"{len(back)} row(s) are earlier than the row before them, the first at row {row}; sort or part them"
    )
    return [Finding("row order", piece.name, "", text)]


def _gaps(piece: Piece, period: float) -> list[Finding]:
    assert piece.times is not None
    order = np.argsort(piece.times, kind="stable")
    steps = np.diff(piece.times[order])
    gaps = np.flatnonzero(steps > _GAP * period)
    if not len(gaps):
        return []
    longest = gaps[int(steps[gaps].argmax())]
    lost = int(np.maximum(np.round(steps[gaps] / period) - 1, 0).sum())
    text = (
        f"{len(gaps)} gap(s), {lost} steps in all; the longest is {steps[longest]:.3g} s after row "
        f"{piece.lines[int(order[longest])]}"
    )
    return [Finding("gap", piece.name, "", text)]
