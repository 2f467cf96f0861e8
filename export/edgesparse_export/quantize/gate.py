"""The gate that an int8 model must pass: what int8 changed on data, each figure with n and 95 % interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgesparse_runtime.bundle.read import Bundle
from edgesparse_runtime.data.series_set import SeriesSet
from edgesparse_runtime.errors import InputError
from edgesparse_runtime.evaluation.bootstrap import bootstrap_interval
from edgesparse_runtime.evaluation.evaluate import score_metrics
from edgesparse_runtime.evaluation.metrics import Metric, wilson_interval
from edgesparse_runtime.session import Session

FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]
FALSE_ALARMS = 0.05
MODEL = "model.int8.onnx"


@dataclass(frozen=True)
class Alarms:
    """Missed alarms where both models give equally many false ones.

    Attributes:
        alarm: the class that is an alarm.
        false_alarm_rate: of both models: each has the threshold on its own score that gives this rate.
        missed_float32: share of the alarms whose score lies below the threshold.
        missed_int8: the same of the int8 model.
        without_alarm: n of the false-alarm rate; it cannot be finer than one of these.
    """

    alarm: str
    false_alarm_rate: float
    missed_float32: Metric
    missed_int8: Metric
    without_alarm: int

    def to_dict(self) -> dict[str, Any]:
        return {
            "alarm": self.alarm,
            "false_alarm_rate": self.false_alarm_rate,
            "missed_float32": self.missed_float32.to_dict(),
            "missed_int8": self.missed_int8.to_dict(),
            "without_alarm": self.without_alarm,
        }


@dataclass(frozen=True)
class Change:
    """int8 against float32 on the same series; what the data or the task do not give is None.

    Attributes:
        series: n of the data.
        metric: the gated metric of the float32 model.
        int8: the same of the int8 model.
        drop: how much worse it got: a share for accuracies, a share of the float32 error for errors.
        flipped: share of series that are decided differently.
        selection_overlap: share of block choices that stay the same; interval over series.
        alarms: missed alarms at a fixed false-alarm rate.
    """

    series: int
    metric: Metric | None
    int8: Metric | None
    drop: float | None
    flipped: Metric | None
    selection_overlap: Metric | None
    alarms: Alarms | None

    def to_dict(self) -> dict[str, Any]:
        return {
            name: value if isinstance(value, (int, float)) or value is None else value.to_dict()
            for name, value in vars(self).items()
        }


@dataclass(frozen=True)
class QuantizationGate:
    """Compares int8 models with the float32 model of a bundle on one set of series.

    Args:
        metric: which metric gates; None = the first of the task (accuracy, mean absolute error).
        max_drop: most that it may get worse: a share for accuracies, a share of the float32 error for errors.
        alarm: the class that is an alarm; None = of two classes the one with fewer series.
    """

    bundle: Bundle
    data: SeriesSet | None
    metric: str | None = None
    max_drop: float = 0.01
    alarm: str | None = None
    false_alarm_rate: float = FALSE_ALARMS

    def float_session(self) -> Session:
        """The bundle's float32 model."""
        return Session(self.bundle, precision="float32", attention="sparse")

    def holds(self, change: Change) -> bool:
        """True where the metric drops by at most `max_drop`, or cannot be measured."""
        return change.drop is None or change.drop <= self.max_drop

    def measure(self, content: bytes, *, before: Session | None = None) -> Change:
        """What changes when the model of these bytes runs in place of the float32 one."""
        return self.compare(Session(MODEL, content=content), before=before)

    def compare(self, session: Session, *, before: Session | None = None) -> Change:
        """What changes when `session` runs in place of the float32 model.

        Raises:
            InputError: the metric or the alarm class is not one of this task.
        """
        if self.data is None or len(self.data) == 0:
            return Change(0, None, None, None, None, None, None)
        before = before or self.float_session()
        windows = before.prepare(self.data)
        old, new = before.predict(windows), session.predict(windows)
        flipped = overlap = alarms = old_metric = new_metric = drop = None
        if self.bundle.classes:
            flipped = share("decisions flipped", old.argmax(-1) != new.argmax(-1))
        if before.is_sparse:
            overlap = selection_overlap(before, session, windows)
        if self.data.labels is not None:
            old_metric, new_metric = (self._pick(scores) for scores in (old, new))
            worse = old_metric.value - new_metric.value
            drop = worse if self.bundle.classes else -worse / max(old_metric.value, 1e-12)
            if self.bundle.classes:
                alarms = self._alarms(old, new, np.asarray(self.data.labels, dtype=np.str_))
        return Change(len(self.data), old_metric, new_metric, drop, flipped, overlap, alarms)

    def _pick(self, scores: FloatArray) -> Metric:
        assert self.data is not None and self.data.labels is not None
        metrics = score_metrics(scores, self.data.labels, self.bundle.classes)
        if self.metric is None:
            return metrics[0]
        found = [m for m in metrics if m.name == self.metric]
        if not found:
            known = ", ".join(m.name for m in metrics)
            raise InputError(f"`--max-drop` must name a metric of this task ({known}); got {self.metric}.")
        return found[0]

    def _alarms(self, old: FloatArray, new: FloatArray, labels: npt.NDArray[np.str_]) -> Alarms | None:
        classes = self.bundle.classes
        alarm = self.alarm
        if alarm is None:
            if len(classes) != 2:
                return None
            alarm = min(classes, key=lambda c: int((labels == c).sum()))
        if alarm not in classes:
            raise InputError(f"`--alarm` must be a class of the model ({', '.join(classes)}); got {alarm}.")
        return missed_alarms(old, new, labels == alarm, classes.index(alarm), alarm, self.false_alarm_rate)


def share(name: str, is_so: BoolArray) -> Metric:
    """A share with Wilson's interval."""
    n, count = len(is_so), int(is_so.sum())
    low, high = wilson_interval(count, n)
    return Metric(name, count / n, low, high, n)


def selection_overlap(before: Session, after: Session, windows: Sequence[FloatArray]) -> Metric:
    """Share of block choices that are equal; the interval is over series: choices of one are dependent."""
    equal = []
    for window in windows:
        pairs = zip(before.selections(window[None]), after.selections(window[None]), strict=True)
        equal.append(np.mean([(a == b).mean() for a, b in pairs]))
    return Metric("block choices equal", float(np.mean(equal)), *bootstrap_interval(equal), len(equal))


def missed_alarms(
    old: FloatArray, new: FloatArray, is_alarm: BoolArray, column: int, alarm: str, rate: float
) -> Alarms | None:
    """None where there are no alarms, or too few other series to measure the false-alarm rate."""
    without = int((~is_alarm).sum())
    if not is_alarm.any() or without * rate < 1:
        return None
    missed = []
    for scores in (old[:, column], new[:, column]):
        # The highest threshold that at most this share of the others exceeds.
        others = np.sort(scores[~is_alarm])[::-1]
        threshold = others[int(without * rate)]
        missed.append(share("missed alarms", scores[is_alarm] <= threshold))
    return Alarms(alarm, rate, missed[0], missed[1], without)
