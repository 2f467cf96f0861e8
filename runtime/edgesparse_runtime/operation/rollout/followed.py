"""`FollowedSession`: a session of a store's answering bundle, which follows the pointer while it runs."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from edgesparse_runtime.arrays import BoolArray, FloatArray
from edgesparse_runtime.data.model_inputs import WindowData
from edgesparse_runtime.errors import EdgeSparseError
from edgesparse_runtime.operation.rollout.comparison import Counts, compare
from edgesparse_runtime.operation.rollout.store import Store
from edgesparse_runtime.session import Session

_Found = TypeVar("_Found")
# Seconds between looks at the store.
_LOOK_EVERY = 1.0


class FollowedSession(Session):
    """Runs the bundle that answers; a shadow runs on the same windows, after the answer was given.

    Args:
        folder: of the store.
        options: as `Session` has them.

    Attributes:
        store: the opened store.
        sha256: of the bundle that answers.
        is_live_trial: does a trial answer?
    """

    def __init__(self, folder: Path, **options: Any) -> None:
        self.store = Store(folder)
        self._options = options
        self._shadow: Session | None = None
        self._waiting: list[tuple[WindowData, FloatArray, float]] = []
        self._counts, self._counted_of = Counts(), ""
        self._looked = time.monotonic()
        self.sha256, self._shadow_of = "", ""
        self.is_live_trial = False
        self._adopt()

    def predict(self, data: Any, **options: Any) -> FloatArray:
        """As `Session.predict`; a live trial that fails is taken back, and the current bundle answers."""
        began = time.perf_counter()
        scores = self._guard(super().predict, data, **options)
        self._note(data, scores, time.perf_counter() - began)
        return scores

    def predict_with_unknown(self, data: Any, **options: Any) -> tuple[FloatArray, FloatArray | None]:
        """As `predict`, of `Session.predict_with_unknown`."""
        if self.unknown_threshold is None:
            return self.predict(data, **options), None
        began = time.perf_counter()
        found = self._guard(super().predict_with_unknown, data, **options)
        self._note(data, found[0], time.perf_counter() - began)
        return found

    def _guard(self, predict: Callable[..., _Found], data: Any, **options: Any) -> _Found:
        """What it returns; a live trial that fails is taken back, and the current bundle answers."""
        try:
            return predict(data, **options)
        except EdgeSparseError as error:
            if not self.is_live_trial:
                raise
            self.take_back(f"it failed: {error}")
            return predict(data, **options)

    def predict_with_selections(
        self, window: WindowData
    ) -> tuple[FloatArray, FloatArray | None, list[BoolArray]]:
        began = time.perf_counter()
        found = super().predict_with_selections(window)
        self._note(window, found[0], time.perf_counter() - began)
        return found

    def after(self, is_late: bool) -> bool:
        """Call after each answer was written: runs the shadow, looks at the store.

        Returns:
            True where another bundle answers from now on.
        """
        self._counts.late += is_late
        for window, scores, seconds in self._waiting:
            if self._shadow is not None:
                self._counts.add(compare(self._shadow, window, scores, seconds))
        self._waiting.clear()
        if time.monotonic() - self._looked < _LOOK_EVERY:
            return False
        self._looked = time.monotonic()
        self._flush()
        self.store.settle()
        return self._adopt()

    def take_back(self, reason: str) -> None:
        """End the trial at once."""
        if self.is_live_trial:
            self.store.end_trial(self.sha256, reason)
            self._adopt()

    def end(self) -> None:
        """The stream has ended in order."""
        self._flush()
        self.store.leave()
        self.store.close()

    def _adopt(self) -> bool:
        """Open what answers now, and the shadow beside it."""
        sha256, trial = self.store.answering(), self.store.trial()
        on_trial = "" if trial is None else trial.sha256
        self.is_live_trial = on_trial == sha256
        shadow = "" if self.is_live_trial else on_trial
        if shadow != self._shadow_of:
            self._shadow = Session(self.store.path(shadow), **self._options) if shadow else None
            self._shadow_of = shadow
        has_changed = sha256 != self.sha256
        if has_changed:
            opened = Session(self.store.path(sha256), **self._options)
            self.__dict__.update(opened.__dict__)
            self.sha256 = sha256
            self._counts = Counts()
        self._counted_of = on_trial
        if on_trial:
            self.store.enter(on_trial)
        return has_changed

    def _note(self, data: WindowData, scores: FloatArray, seconds: float) -> None:
        if self._shadow is not None:
            self._waiting.append((data, scores, seconds))
        elif self.is_live_trial:
            self._counts.add(Counts(windows=1, trial_s=seconds))

    def _flush(self) -> None:
        self._counts.write(self.store, self._counted_of)
        self._counts = Counts()
