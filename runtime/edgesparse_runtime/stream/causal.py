"""`CausalScorer`: a causal model advanced sample by sample, so that a score does not cost a whole window."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np

from edgesparse_runtime.data.sensors.input_check import InputCheck
from edgesparse_runtime.stream.monitor.signals import Signals
from edgesparse_runtime.stream.sample import FloatArray, Score, Step
from edgesparse_runtime.stream.step.token_stream import StepModel, TokenStream
from edgesparse_runtime.stream.windows import RingBuffer, find_faults, find_signals


@dataclass
class _Stretch:
    """One run of the model over the samples since `start`."""

    tokens: TokenStream
    start: float
    steps: int = 0
    missing: int = 0


class CausalScorer:
    """Scores every `stride` steps, over the last `window`/2 to `window` steps.

    A model sees all steps since its first, and was trained on windows of some length. So a stretch of
    samples ends at `window` steps; the next one begins half a window before, and takes over there. Two
    stretches run at a time, and only the older one computes scores.

    Args:
        model: the opened step model.
        window: most steps that a score looks back.
        stride: steps between scores, from half a window on.
        check: finds dead sensors.
        signals: computes each window's signals for a monitor, but for the selection's; None = none.
    """

    def __init__(
        self,
        model: StepModel,
        window: int,
        stride: int,
        check: InputCheck | None = None,
        signals: Signals | None = None,
    ) -> None:
        self._model = model
        self._window = window
        self._first = (window + 1) // 2
        self._stride = stride
        self._check = check
        self._signals = signals
        # What the step model has seen, for the check alone.
        self._values = RingBuffer(model.channels, window)
        self._stretches: deque[_Stretch] = deque()
        self._segment = 0
        self._count = 0
        self._is_due = False

    def push(self, step: Step) -> Score | None:
        """The scores at `step`, where they are due.

        A step without any value is not scored; the score is due at the next one that has a value.
        """
        if step.restarts:
            self._segment += 1
            self._count = 0
            self._is_due = False
            self._stretches.clear()
        # Stretches begin half a window apart, whatever came before the first of them ended.
        if self._count % self._first == 0:
            self._stretches.append(_Stretch(TokenStream(self._model, self._window), step.time))
        self._count += 1
        if self._count >= self._first and (self._count - self._first) % self._stride == 0:
            self._is_due = True
        gone = int(np.isnan(step.values).sum())
        self._values.push(step.values)
        asked = self._is_due and gone < len(step.values)
        score: Score | None = None
        for place, stretch in enumerate(self._stretches):
            scores = stretch.tokens.push(step.values, wants_scores=asked and place == 0)
            stretch.steps += 1
            stretch.missing += gone
            if scores is not None:
                self._is_due = False
                window: FloatArray = self._values.view()[:, -stretch.steps :].astype(np.float32)
                score = Score(
                    values=scores,
                    time=step.time,
                    start=stretch.start,
                    steps=stretch.steps,
                    segment=self._segment,
                    missing=stretch.missing / (stretch.steps * len(step.values)),
                    arrived=step.arrived,
                    faults=find_faults(self._check, window),
                    signals=find_signals(self._signals, window, scores),
                )
        if self._stretches[0].steps == self._window:
            self._stretches.popleft()
        return score
