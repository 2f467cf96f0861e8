"""Numbers that loggers write where they have no value: -999, 32767, 1e30.

Whether -999 is a reading cannot be told from one row, and an answer depends on its own input alone
(docs/guides/data.md, "Alone"): so the value stays what it is, and a note names it.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from edgesparse_runtime.arrays import FloatArray
from edgesparse_runtime.data.series_set import SeriesSet

_NINES = tuple(10.0**digits - 1 for digits in range(2, 8))
_CODES = frozenset(
    float(np.float32(code))
    for code in (*_NINES, *(-nines for nines in _NINES), -99.9, -999.9, -9999.9, -32768, 32767, 65535, -888)
)
# netCDF, CMIP and others fill with numbers beyond every sensor.
_BEYOND = 1e20
# A code lies this many ranges of the other values away from them.
_FAR = 3.0


def missing_code_notes(path: Path, data: SeriesSet) -> tuple[str, ...]:
    """A sentence per channel that holds such a number far from all its other values."""
    notes = []
    # Series may lie in a file: they are looked at one by one, and all again where there is a code.
    ends = _ends(data.series, len(data.channels))
    for i, name in enumerate(data.channels):
        found = codes_of([x[i] for x in data.series]) if _codes(ends[i]) else []
        if found:
            shown = " and ".join(f"{code:.7g}" for code in found)
            notes.append(
                f"{path}: channel {name} holds {shown}, far from all its other values, as loggers write "
                "where a value is missing; it is taken as a value. Leave such cells empty if it is none."
            )
    return tuple(notes)


def codes_of(rows: list[np.ndarray]) -> list[float]:
    """The lowest and the highest value of a channel, where they are such numbers."""
    known = [row[~np.isnan(row)] for row in rows]
    known = [row for row in known if len(row)]
    if not known:
        return []
    codes = _codes({float(min(row.min() for row in known)), float(max(row.max() for row in known))})
    if not codes:
        return []
    values = np.concatenate(known).astype(np.float64)
    others = values[~np.isin(values, codes)]
    if not len(others):
        return []
    low, high = float(others.min()), float(others.max())
    return [code for code in codes if max(low - code, code - high) > _FAR * (high - low)]


def _codes(ends: set[float]) -> list[float]:
    return sorted(end for end in ends if end in _CODES or abs(end) >= _BEYOND)


def _ends(series: Iterable[FloatArray], channels: int) -> list[set[float]]:
    """The lowest and the highest value of each channel; infinite where it has none."""
    low, high = np.full(channels, np.inf), np.full(channels, -np.inf)
    for x in series:
        low = np.fmin(low, np.fmin.reduce(x, axis=1, initial=np.inf))
        high = np.fmax(high, np.fmax.reduce(x, axis=1, initial=-np.inf))
    return [{float(a), float(b)} for a, b in zip(low, high, strict=True)]
