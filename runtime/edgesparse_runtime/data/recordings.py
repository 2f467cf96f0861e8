"""Recordings, as a reader finds them, to the series or windows of a `SeriesSet`.

Here, and nowhere else, times become steps and recordings become windows (docs/guides/data.md, "The grid").
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from edgesparse_runtime.arrays import DoubleArray, FloatArray, IndexArray
from edgesparse_runtime.data.clock import Clock
from edgesparse_runtime.data.grid import MAX_GAP, NO_ROW, period_of, place_rows
from edgesparse_runtime.data.times.coarse_clock import spread_coarse, spread_rounded
from edgesparse_runtime.data.unwrap import split_glued, unwrap

# Numbers that rise by one from row to row count rows; what a row lasts is not known.
_COUNT = 1.0


@dataclass(frozen=True)
class Recording:
    """Rows of one machine or series, in the order of the file.

    Attributes:
        values: [channels, rows].
        rows: number of each row in the file's table, for messages and labels.
        times: seconds of each row; None = the file has none.
        name: the series as the file names it; "" where it does not.
        number: of the recording in its file.
        piece: of a recording that has long gaps: which stretch, from 0.
    """

    values: FloatArray
    rows: IndexArray
    times: DoubleArray | None = None
    name: str = ""
    number: int = 0
    piece: int = 0


@dataclass
class Findings:
    """What was noticed on the way, for one note per kind.

    Attributes:
        periods: of each recording; NaN = its times count rows, None = they are not evenly spaced.
        places: of the same recordings.
    """

    seen: dict[str, list[str]] = field(default_factory=dict)
    periods: list[float | None] = field(default_factory=list)
    places: list[str] = field(default_factory=list)

    def add(self, kind: str, where: str) -> None:
        self.seen.setdefault(kind, []).append(where)

    def add_period(self, period: float | None, where: str) -> None:
        self.periods.append(period)
        self.places.append(where)

    def notes(self, source: str) -> list[str]:
        """A sentence per kind, with the first place and how many there are."""
        lines = []
        for kind, places in self.seen.items():
            more = f" and {len(places) - 1} more" if len(places) > 1 else ""
            lines.append(f"{source}: {places[0]}{more}: {kind}.")
        return lines


def to_steps(
    recordings: Sequence[Recording],
    clock: Clock | None,
    window: int | None,
    place: Callable[[Recording], str],
    found: Findings,
) -> list[Recording]:
    """Each recording on its grid: in time order, short gaps filled, cut where gaps are long.

    Args:
        clock: of the times; None = the file has none, rows are steps.
        window: steps of the windows that will be cut; None = whole series.
        place: says which recording it is.
        found: what was noticed goes here.
    """
    if clock is None:
        return list(recordings)
    steps: list[Recording] = []
    number = 0
    for recording in recordings:
        assert recording.times is not None
        times, words = unwrap(recording.times, clock)
        if words:
            found.add(words, place(recording))
        parts = split_glued(times)
        if len(parts) > 1:
            found.add(
                f"the clock is set back, so {len(parts)} recordings follow each other without a series "
                "column; each is taken by itself",
                place(recording),
            )
        for part in parts:
            one = replace(
                recording, values=recording.values[:, part], rows=recording.rows[part], number=number
            )
            steps += _grid_one(one, times[part], clock, window, place, found)
            number += 1
    return steps


def _grid_one(
    recording: Recording,
    times: DoubleArray,
    clock: Clock,
    window: int | None,
    place: Callable[[Recording], str],
    found: Findings,
) -> list[Recording]:
    where = place(recording)
    if bool((np.diff(times) < 0).any()):
        order = np.argsort(times, kind="stable")
        recording = replace(recording, values=recording.values[:, order], rows=recording.rows[order])
        times = times[order]
        found.add("rows were not in time order and have been put in order", where)
    times, shared = spread_coarse(times)
    if shared:
        found.add(
            f"about {shared} rows share each time: the clock is coarser than the samples, which are taken as "
            "evenly spaced (or several machines are mixed: name their column with --group-column)",
            where,
        )
    elif not _are_sent_twice(times, recording.values):
        times, is_rounded = spread_rounded(times)
        if is_rounded:
            found.add("the clock rounds its times; the rows are taken as evenly spaced", where)
    recording = replace(recording, times=times)
    counts_rows = clock.kind == "number" and not clock.has_unit and bool((times == np.round(times)).all())
    period = period_of(times)
    if counts_rows and period == _COUNT:
        found.add_period(np.nan, where)
    elif period is not None:
        found.add_period(period, where)
    if period is None:
        if len(times) > 2:
            found.add("times are not evenly spaced; rows are taken as steps", where)
            found.add_period(None, where)
        return [recording]
    placed = place_rows(times, period, int(MAX_GAP * (window or len(times))))
    if placed.repeats:
        found.add(f"{len(placed.repeats)} rows repeat a time; the first one counts", where)
        recording = replace(recording, values=_merged(recording.values, placed.repeats))
    if placed.filled:
        found.add(f"{placed.filled} steps are missing in short gaps and count as missing values", where)
    if len(placed.pieces) > 1:
        found.add(
            f"{len(placed.pieces) - 1} gap(s) longer than {MAX_GAP:.0%} of a window; what lies before "
            "and after is taken apart",
            where,
        )
    return [_pick(recording, piece, number) for number, piece in enumerate(placed.pieces)]


def _are_sent_twice(times: DoubleArray, values_CT: FloatArray) -> bool:
    """Whether every row that has the time of the row before it has its values too."""
    same = np.flatnonzero(np.diff(times) == 0)
    return bool(len(same)) and np.array_equal(values_CT[:, same], values_CT[:, same + 1], equal_nan=True)


def _merged(values_CT: FloatArray, repeats: Sequence[tuple[int, int]]) -> FloatArray:
    """Values of one step from all rows of it: the first has precedence, others fill in."""
    merged = values_CT.copy()
    for row, kept in repeats:
        missing = np.isnan(merged[:, kept])
        merged[missing, kept] = values_CT[missing, row]
    return merged


def _pick(recording: Recording, piece: IndexArray, number: int) -> Recording:
    """The steps of one piece; where no row is, values and row are missing."""
    is_row = piece != NO_ROW
    values = np.where(is_row, recording.values[:, np.where(is_row, piece, 0)], np.float32(np.nan))
    assert recording.times is not None
    return replace(
        recording,
        values=values.astype(np.float32),
        rows=np.where(is_row, recording.rows[np.where(is_row, piece, 0)], NO_ROW),
        times=np.where(is_row, recording.times[np.where(is_row, piece, 0)], np.nan),
        piece=number,
    )


def cut(recordings: Sequence[Recording], window: int, stride: int, *, keeps_short: bool) -> list[Recording]:
    """Windows of every recording; none reaches from one into the next.

    Args:
        keeps_short: a recording shorter than the window stays, whole; otherwise it has no window. Of one
            that gaps take apart, short pieces stay only where no piece has a window.
    """
    windows = []
    has_window = {r.number for r in recordings if r.values.shape[1] >= window}
    for recording in recordings:
        steps = recording.values.shape[1]
        if keeps_short and recording.number not in has_window:
            windows.append(recording)
        for start in range(0, steps - window + 1, stride):
            windows.append(_steps(recording, slice(start, start + window)))
    return windows


def last_windows(recordings: Sequence[Recording], window: int) -> list[Recording]:
    """The last steps of each recording, of its last piece where it has long gaps; shorter ones whole."""
    last = {recording.number: recording for recording in recordings}
    return [_steps(recording, slice(-window, None)) for recording in last.values()]


def _steps(recording: Recording, piece: slice) -> Recording:
    return replace(
        recording,
        values=recording.values[:, piece],
        rows=recording.rows[piece],
        times=None if recording.times is None else recording.times[piece],
    )


def common_period(periods: Sequence[float | None]) -> float | None:
    """The period that the recordings share; None = unknown, or they differ by more than a tenth."""
    known = np.array([p for p in periods if p is not None and np.isfinite(p)])
    if not len(known) or len(known) < len(periods):
        return None
    middle = float(np.median(known))
    return middle if bool((np.abs(known - middle) <= 0.1 * middle).all()) else None
