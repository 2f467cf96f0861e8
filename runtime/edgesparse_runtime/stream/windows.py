"""`WindowScorer`: overlapping windows from a ring buffer, each run whole."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from edgesparse_runtime.arrays import BoolArray
from edgesparse_runtime.data.sensors.input_check import InputCheck
from edgesparse_runtime.session import Session
from edgesparse_runtime.stream.monitor.signals import Signals
from edgesparse_runtime.stream.sample import FloatArray, Score, Step


class RingBuffer:
    """The last `length` columns of a stream, always available as one view.

    Every column is written twice, `length` apart, so that no window is assembled from two parts.
    """

    def __init__(self, rows: int, length: int, dtype: npt.DTypeLike = np.float32) -> None:
        self._twice = np.zeros((rows, 2 * length), dtype=dtype)
        self._length = length
        self._next = 0

    def push(self, column: npt.ArrayLike) -> None:
        self._twice[:, self._next] = column
        self._twice[:, self._next + self._length] = column
        self._next = (self._next + 1) % self._length

    def view(self) -> npt.NDArray[np.generic]:
        """[rows, length], oldest column first; valid until the next push."""
        return self._twice[:, self._next : self._next + self._length]


class WindowScorer:
    """Scores the last `window` steps every `stride` steps, from the first full window on.

    Args:
        session: the opened model.
        window: steps per window.
        stride: steps between windows.
        check: finds dead sensors.
        signals: computes each window's signals for a monitor; None = none.
    """

    def __init__(
        self,
        session: Session,
        window: int,
        stride: int,
        check: InputCheck | None = None,
        signals: Signals | None = None,
    ) -> None:
        assert isinstance(session.channel_count, int)
        self._session = session
        self._window = window
        self._stride = stride
        self._check = check
        self._signals = signals
        self._values = RingBuffer(session.channel_count, window)
        self._times = RingBuffer(1, window, np.float64)
        self._segment = 0
        self._count = 0

    def push(self, step: Step) -> Score | None:
        """The scores of the window that ends with `step`, where one does."""
        if step.restarts:
            self._segment += 1
            self._count = 0
        self._values.push(step.values)
        self._times.push(step.time)
        self._count += 1
        if self._count < self._window or (self._count - self._window) % self._stride:
            return None
        window: FloatArray = self._values.view().astype(np.float32)
        if self._signals is not None and self._signals.layers:
            scores, unknown, selections = self._session.predict_with_selections(window)
        else:
            scores, unknown = self._session.predict_with_unknown(window)
            selections = []
        return Score(
            values=scores[0],
            time=step.time,
            start=float(self._times.view()[0, 0]),
            steps=self._window,
            segment=self._segment,
            missing=float(np.isnan(window).mean()),
            arrived=step.arrived,
            faults=find_faults(self._check, window),
            unknown=None if unknown is None else float(unknown[0]),
            signals=find_signals(self._signals, window, scores[0], selections),
        )


def find_faults(check: InputCheck | None, window_CT: FloatArray) -> tuple[str, ...]:
    """What is wrong with the sensors of a window, a sentence each."""
    return () if check is None else tuple(map(str, check.check(window_CT)))


def find_signals(
    signals: Signals | None, window_CT: FloatArray, scores_K: FloatArray, selections: Sequence[BoolArray] = ()
) -> Sequence[float] | None:
    """The signals of one window, for a monitor."""
    return None if signals is None else signals.of_window(window_CT, scores_K, selections)
