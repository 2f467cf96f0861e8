"""Recordings with labels and groups to a `SeriesSet`, the same for every form of file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgesparse_runtime.data.clock import LOCAL, Clock
from edgesparse_runtime.data.readers.labels import Labels, class_name, to_target
from edgesparse_runtime.data.readers.options import ReadOptions
from edgesparse_runtime.data.readers.text import is_missing
from edgesparse_runtime.data.recordings import Findings, Recording, common_period, cut, last_windows, to_steps
from edgesparse_runtime.data.series_set import Grid, Role, SeriesSet
from edgesparse_runtime.errors import InputError

# Another sampling rate than the model's, from this share on, is refused.
RATE_TOLERANCE = 0.1


@dataclass(frozen=True)
class LabelColumn:
    """A label for every row of a file.

    Attributes:
        cells: as they are written.
        place: where a row stands.
    """

    cells: Sequence[Any]
    place: Callable[[int], str]


def assemble(
    recordings: Sequence[Recording],
    *,
    path: Path,
    channels: tuple[str, ...],
    options: ReadOptions,
    clock: Clock | None = None,
    label: LabelColumn | None = None,
    group: Sequence[Any] | None = None,
    start: Sequence[Any] | None = None,
    place: Callable[[Recording], str] = lambda recording: f"series {recording.number + 1}",
    units: tuple[str | None, ...] = (),
    roles: tuple[Role, ...] = (),
    has_names: bool = False,
    has_one_rate: bool = False,
) -> SeriesSet:
    """Series, or windows where `options.window` is given.

    Args:
        clock: of the recordings' times.
        label, group, start: a cell for every row of the file.
        place: where a recording stands, for messages.
        has_names: the file names its series.
        has_one_rate: recordings of several rates are refused, though no rate is stated.

    Raises:
        InputError: nothing to cut, a series without values, labels that differ or are missing, or another
            sampling rate than the model's.
    """
    for recording in recordings:
        if not recording.values.size or bool(np.isnan(recording.values).all()):
            raise InputError(f"{path}: {place(recording)} must hold at least one value; all are missing.")
    options = _in_steps(recordings, clock, options, path, place)
    found = Findings()
    steps = to_steps(recordings, clock, options.window, place, found)
    period = common_period(found.periods)
    _check_rates(path, found, options.period, has_one_rate)
    several = len({r.number for r in steps}) > 1
    windows = steps if options.window is None else _windows(steps, path, options)
    labels, words = (None, "") if label is None else _labels(windows, label, path, options, place)
    zone = (clock.zone if clock is not None else "") or None
    notes = found.notes(str(path)) + [f"{path}: {x}." for x in (words, _zone_words(zone, options.zone)) if x]
    return SeriesSet(
        series=[r.values for r in windows],
        channels=channels,
        labels=labels,
        groups=_groups(
            windows, group, options, several, lambda i: f"{path}: the group of {place(windows[i])}"
        ),
        source=str(path),
        ids=np.array([r.name for r in windows], dtype=np.str_) if has_names else None,
        recordings=np.array([str(r.number + 1) for r in windows], dtype=np.str_),
        starts=_column(windows, start) if start is not None else _steps_of(windows, steps, clock, options),
        grid=Grid(options.window, options.stride or options.window, period, zone),
        units=units,
        roles=roles,
        notes=tuple(notes),
    )


def _steps_of(
    windows: Sequence[Recording], steps: Sequence[Recording], clock: Clock | None, options: ReadOptions
) -> npt.NDArray[np.str_] | None:
    """The step, from 0, at which each window starts in its recording, where no clock names its time."""
    if clock is not None or options.window is None:
        return None
    rows = {recording.number: recording.rows for recording in steps}
    return np.array([str(np.searchsorted(rows[w.number], w.rows[0])) for w in windows], dtype=np.str_)


def _in_steps(
    recordings: Sequence[Recording],
    clock: Clock | None,
    options: ReadOptions,
    path: Path,
    place: Callable[[Recording], str],
) -> ReadOptions:
    """Window and stride that are stated as times, as steps of the data's grid."""
    window, stride = options.window_time, options.stride_time
    if window is None and stride is None:
        return options
    seen = Findings()
    to_steps(recordings, clock, None, place, seen)
    period = common_period(seen.periods) or options.period
    return replace(
        options,
        window=options.window if window is None else window.to_steps(period, str(path), "--window"),
        stride=options.stride if stride is None else stride.to_steps(period, str(path), "--stride"),
        window_time=None,
        stride_time=None,
    )


def _windows(steps: Sequence[Recording], path: Path, options: ReadOptions) -> list[Recording]:
    assert options.window is not None
    windows = cut(steps, options.window, options.stride or options.window, keeps_short=options.keeps_short)
    if options.last_only:
        windows = last_windows(steps, options.window)
    if not windows:
        longest = max(r.values.shape[1] for r in steps)
        raise InputError(
            f"`window` must be at most {longest}, the longest recording of {path}; got {options.window}."
        )
    return windows


def _check_rate(path: Path, period: float | None, wanted: float | None) -> None:
    """Each recording's period; NaN = its rows are counted, None = its times are uneven."""
    if wanted is None or (period is not None and not abs(period - wanted) > RATE_TOLERANCE * wanted):
        return
    got = "its times are not evenly spaced" if period is None else f"got every {_rate(period)}"
    raise InputError(
        f"{path} must have a step every {_rate(wanted)}, as in training; {got}. Resample it first."
    )


def _check_rates(path: Path, found: Findings, wanted: float | None, has_one_rate: bool) -> None:
    for seen in found.periods:
        _check_rate(path, seen, wanted)
    if has_one_rate:
        _check_one_rate(path, found)


def _check_one_rate(path: Path, found: Findings) -> None:
    """Recordings that have a period have that of most; an odd one would be taken for a slow machine."""
    known = [p for p in found.periods if p is not None and not np.isnan(p)]
    if not known:
        return
    usual = float(np.median(known))
    for period, where in zip(found.periods, found.places, strict=True):
        if period is None or not abs(period - usual) <= RATE_TOLERANCE * usual:
            got = "its times are not evenly spaced" if period is None else "it counts rows"
            if period is not None and not np.isnan(period):
                got = f"it has one every {_rate(period)}"
            raise InputError(
                f"{path}: {where} must have a step every {_rate(usual)}, as the other recordings have; "
                f"{got}. Resample it or leave it out."
            )


def _groups(
    windows: Sequence[Recording],
    group: Sequence[Any] | None,
    options: ReadOptions,
    several: bool,
    where: Callable[[int], str],
) -> npt.NDArray[np.str_] | None:
    """The group of each window: as the file names it, or its recording where there are several."""
    if group is None:
        # Windows of one recording resemble each other, and may share steps.
        numbers = np.array([str(r.number) for r in windows], dtype=np.str_)
        return numbers if options.window is not None and several else None
    groups = _column(windows, group)
    is_empty = groups == ""
    # They would be held out and counted as if they were one more machine.
    if options.needs_labels and is_empty.any() and not is_empty.all():
        raise InputError(
            f"{where(int(is_empty.argmax()))} must not be empty. Fill it in or leave the rows out."
        )
    return groups


def _zone_words(zone: str | None, wanted: str | None) -> str:
    """What to know of times with a zone where training had local ones, or the other way round."""
    if zone is None or wanted is None or (zone == LOCAL) == (wanted == LOCAL):
        return ""
    if zone == LOCAL:
        return (
            f"its times have no zone, those of training had ({wanted}); they are read and come back as local"
        )
    return f"its times have a zone ({zone}), those of training had none; they come back as written"


def _rate(period: float) -> str:
    return f"{period:.4g} s ({1 / period:.4g} Hz)"


def _column(windows: Sequence[Recording], cells: Sequence[Any]) -> npt.NDArray[np.str_]:
    """The cell of each window's first row."""
    first = [int(r.rows[r.rows >= 0][0]) if (r.rows >= 0).any() else -1 for r in windows]
    return np.array(
        ["" if i < 0 or is_missing(cells[i]) else str(cells[i]).strip() for i in first], dtype=np.str_
    )


def _labels(
    windows: Sequence[Recording],
    label: LabelColumn,
    path: Path,
    options: ReadOptions,
    place: Callable[[Recording], str],
) -> tuple[Labels, str]:
    """A label per series or window, and in words how those of windows came about."""
    is_number = options.task == "regression"
    if options.window is None:
        return _whole_labels(windows, label, path, place, is_number), ""
    if is_number:
        targets = [_mean_target(r, label, path, place) for r in windows]
        return np.array(targets, dtype=np.float64), "the target of a window is the mean over its steps"
    names, shares = [], []
    for recording in windows:
        name, share = _majority(recording, label)
        if not name:
            raise InputError(f"{path}: label of {place(recording)} must not be empty; no step has one.")
        names.append(name)
        shares.append(share)
    mixed = int((np.array(shares) < 1).sum())
    words = ""
    if mixed:
        words = (
            f"the class of a window is that of most of its steps; {mixed} of {len(shares)} windows are "
            f"mixed, at least {min(shares):.0%} of their steps have that class"
        )
    return np.array(names, dtype=np.str_), words


def _cells(recording: Recording, label: LabelColumn) -> list[tuple[int, Any]]:
    """Rows that have a label, with it."""
    rows = recording.rows[recording.rows >= 0].tolist()
    cells = [label.cells[row] for row in rows]
    # A recording has few labels and may have millions of rows.
    known = {cell for cell in set(cells) if not is_missing(cell)}
    return [(row, cell) for row, cell in zip(rows, cells, strict=True) if cell in known]


def _whole_labels(
    series: Sequence[Recording],
    label: LabelColumn,
    path: Path,
    place: Callable[[Recording], str],
    is_number: bool,
) -> Labels:
    found: list[Any] = []
    for recording in series:
        cells = _cells(recording, label)
        if not cells:
            row = int(recording.rows[0])
            shown = str(label.cells[row]) if row >= 0 else ""
            raise InputError(f"{path}: label of {place(recording)} must not be empty; got {shown!r}.")
        first = cells[0][1]
        for row, cell in cells:
            if cell != first and class_name(cell) != class_name(first):
                raise InputError(
                    f"{path}, {label.place(row)}: a series must have one label; got {str(cell)!r} after "
                    f"{str(first)!r}. Give `--window` to cut a recording into windows."
                )
        found.append(to_target(first, path, place(recording)) if is_number else class_name(first))
    return np.array(found, dtype=np.float64) if is_number else np.array(found, dtype=np.str_)


def _mean_target(
    recording: Recording, label: LabelColumn, path: Path, place: Callable[[Recording], str]
) -> float:
    targets = [to_target(cell, path, label.place(row)) for row, cell in _cells(recording, label)]
    if not targets:
        raise InputError(f"{path}: target of {place(recording)} must be a number; no step has one.")
    return float(np.mean(targets))


def _majority(recording: Recording, label: LabelColumn) -> tuple[str, float]:
    """The class of most steps, the earlier one of two that are equal, and its share; "" = no step has one."""
    cells = Counter(cell for _, cell in _cells(recording, label))
    if not cells:
        return "", 0.0
    counts: dict[str, int] = {}
    for cell, count in cells.items():
        name = class_name(cell)
        counts[name] = counts.get(name, 0) + count
    best = max(counts, key=lambda name: counts[name])
    return best, counts[best] / cells.total()
