"""The monitor's side of a model: its signals, its reference, and the windows of a data file."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from edgesparse_runtime.arrays import DoubleArray, FloatArray
from edgesparse_runtime.bundle.read import Bundle
from edgesparse_runtime.bundle.regular_file import open_regular
from edgesparse_runtime.data.model_inputs import WindowInputs
from edgesparse_runtime.data.sensors.input_check import check_input
from edgesparse_runtime.data.series_set import SeriesSet
from edgesparse_runtime.errors import InputError
from edgesparse_runtime.session import Session
from edgesparse_runtime.stream.monitor.reference import FILE, Learned, Reference, learn, parse_reference
from edgesparse_runtime.stream.monitor.signals import Signals


def signals_of(session: Session, *, routing: bool = False) -> Signals:
    """The signals of a model's windows.

    Args:
        routing: with those of the selection of its sparse layers.

    Raises:
        InputError: the model is no bundle of windows.
    """
    if session.bundle is None or not isinstance(session.inputs, WindowInputs):
        raise InputError(f"{session.path} must be a bundle that takes windows to be monitored.")
    layers = len(session.selection_names) if routing else 0
    return Signals(session.bundle.channels, session.classes, session.score_count, layers)


def read_reference(bundle: Bundle, path: Path | None) -> Reference:
    """The reference at `path`, or that of the bundle.

    Raises:
        InputError: there is none, or it is damaged.
    """
    if path is not None:
        with open_regular(path) as stream:
            return parse_reference(stream.read(), str(path))
    if FILE not in bundle.manifest["files"]:
        raise InputError(
            f"{bundle.path} has no reference to compare with. Run `edgesparse monitor learn` on windows of a "
            "machine in order."
        )
    return parse_reference(bundle.read(FILE), f"{bundle.path}: {FILE}")


def find_reference(session: Session, path: Path | None) -> Reference:
    """The reference at `path`, or that of the session's bundle.

    Raises:
        InputError: there is none, or it is damaged or of another model.
    """
    if session.bundle is None:
        raise InputError(f"{session.path} must be a bundle to be monitored.")
    reference = read_reference(session.bundle, path)
    signals_for(session, reference)
    return reference


def signals_for(session: Session, reference: Reference) -> Signals:
    """The signals that a reference was learned with.

    Raises:
        InputError: the reference is of another model.
    """
    for routing in (False, True):
        signals = signals_of(session, routing=routing)
        if signals.names == reference.signals:
            return signals
    raise InputError(
        f"The reference must be of {session.path.parent.name or session.path}; it has other signals. "
        "Learn it again."
    )


def predict_signals(
    session: Session, signals: Signals, data: SeriesSet
) -> tuple[FloatArray, DoubleArray, list[tuple[str, ...]]]:
    """Scores, signals and faults of every series."""
    faults = [tuple(map(str, found)) for found in check_input(session, data)]
    if not signals.layers:
        scores = session.predict(data)
        found = np.empty((len(scores), len(signals.names)))
        for i, window in enumerate(session.prepare(data)):
            found[i] = signals.of_windows(window[None], scores[i : i + 1])[0]
        return scores, found, faults
    rows, values = [], []
    for window in session.prepare(data):
        score, _, selections = session.predict_with_selections(window)
        rows.append(score[0])
        values.append(signals.of_windows(window[None], score, selections)[0])
    return np.array(rows), np.array(values), faults


def learn_from(session: Session, signals: Signals, data: SeriesSet, *, context: str = "") -> Reference:
    """A reference of the series of a data file, but for those with a dead sensor.

    Raises:
        InputError: there is none, or the data have no such context.
    """
    _, values, faults = predict_signals(session, signals, data)
    good = np.array([not found for found in faults], dtype=np.bool_)
    contexts = contexts_of(data, context)
    groups = None if data.groups is None else data.groups[good]
    return learn(
        signals.names,
        values[good],
        learned_of(data, int(good.sum())),
        context=context,
        contexts=None
        if contexts is None
        else [c for c, is_good in zip(contexts, good, strict=True) if is_good],
        groups=groups,
    )


def learned_of(data: SeriesSet, windows: int) -> Learned:
    """Facts of the windows of a data file."""
    grid = data.grid
    stride = grid.stride or grid.window
    overlap = max(1, -(-grid.window // stride)) if grid.window and stride else 1
    seconds = grid.period * stride if grid.period and stride else None
    return Learned(windows, overlap, seconds, Path(data.source).name)


def contexts_of(data: SeriesSet, context: str) -> list[str] | None:
    """The context of each series; None = no contexts.

    Raises:
        InputError: the data do not have it.
    """
    if not context:
        return None
    if context == "group":
        if data.groups is None:
            raise InputError("`--context group` needs a column with the machine. Use --group-column.")
        return [str(group) for group in data.groups]
    if data.starts is None:
        raise InputError("`--context hour` needs calendar times, and the data have no times.")
    return [hour_of_text(str(start)) for start in data.starts]


def hour_of_text(text: str) -> str:
    """The hour of a calendar time, "00" to "23".

    Raises:
        InputError: it is none.
    """
    try:
        return f"{datetime.fromisoformat(text).hour:02d}"
    except ValueError:
        raise InputError(f"`--context hour` needs calendar times (ISO 8601); got {text}.") from None


def errors_of(bundle: Bundle, scores_NK: FloatArray, labels: Any) -> list[float]:
    """The error of each labeled window, from 0 to 1.

    1 for a wrong class; for numbers a quarter where it is the mean absolute error that the manifest states.
    """
    if bundle.classes:
        wrong = [
            bundle.classes[int(row.argmax())] != str(label)
            for row, label in zip(scores_NK, labels, strict=True)
        ]
        return [float(w) for w in wrong]
    scale = 4 * float(bundle.manifest["metrics"]["mae"]["high"])
    return [
        min(1.0, abs(float(row[0]) - float(label)) / scale)
        for row, label in zip(scores_NK, labels, strict=True)
    ]


def error_limit(bundle: Bundle, stated: float | None) -> float:
    """The error that is still in order: as stated, or the upper end of the manifest's interval.

    Raises:
        InputError: not between 0 and 1, or the manifest has no metric.
    """
    if stated is not None:
        if not 0 < stated < 1:
            raise InputError(f"`--error-limit` must be between 0 and 1; got {stated:g}.")
        return stated
    metrics = bundle.manifest.get("metrics", {})
    if bundle.classes and "accuracy" in metrics:
        return min(0.99, max(0.01, 1 - float(metrics["accuracy"]["low"])))
    if not bundle.classes and "mae" in metrics and float(metrics["mae"]["high"]) > 0:
        return 0.25
    raise InputError("`--error-limit` must be given; the bundle states no accuracy of its own.")
