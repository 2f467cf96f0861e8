"""Dynamic batching: windows of one model and one length share a model run.

Rules:
1. Only windows of the same loaded model, channel count and length share a run; nothing is padded.
2. A run starts when a runner is free and a group is full, or its oldest window has waited `wait` seconds.
   Behind each runner one more run may wait, if it is full and short: otherwise a runner is idle until the
   event loop has served whoever comes before its next run.
3. Requests start in the order of their turn: arrival, put back by `YIELD` times the seconds that they are
   expected to compute. One that computes for a second yields to small ones that come within four.
4. A request of more windows than a run may hold becomes several runs, each with a later turn.
5. A model whose answers depend on what shares the run (`max_rows` 1) runs window by window. An explanation
   shares no run.
6. When a shared run fails, each of its requests runs alone: one cannot fail the others.
7. A window whose request gave up before its run started is left out; a run that nobody waits for is ended.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import onnxruntime

from edgesparse_runtime.errors import EdgeSparseError
from edgesparse_runtime.serving.protocol.tensors import FloatArray

YIELD = 4.0
# Seconds that a run may be expected to take if it is to wait behind a runner: what comes later waits for it.
_SHORT = 0.05
Operation = Literal["scores", "explain"]


class Runnable(Protocol):
    """A loaded model."""

    @property
    def max_rows(self) -> int | None:
        """Windows that may share a run; None = as many as the server allows."""

    def scores(self, window: FloatArray, options: onnxruntime.RunOptions | None = None) -> FloatArray:
        """Scores [n, k] of windows [n, channels, steps]."""

    def explain(self, window: FloatArray, options: onnxruntime.RunOptions | None = None) -> Any:
        """Whatever explains the scores of these windows."""


@dataclass(eq=False)
class _Waiting:
    window: FloatArray
    answer: asyncio.Future[Any]
    since: float
    # Values of its request up to and with this part.
    size: int


@dataclass(eq=False)
class _Run:
    """What was started: its requests, and the handle that ends it when all of them gave up."""

    parts: list[_Waiting]
    options: onnxruntime.RunOptions


class Scored(NamedTuple):
    """Windows that were answered by one run, and their scores, by request.

    Attributes:
        seconds: of the processor, in the run's own thread.
        waited: seconds that the oldest of them waited for the run's start.
    """

    windows: Sequence[FloatArray]
    scores: Sequence[FloatArray]
    seconds: float
    waited: float


_Key = tuple[Runnable, Operation, tuple[int, ...]]
# Results by request, seconds, and seconds of the processor.
_Done = tuple[list[Any], float, float]


class Batcher:
    """Runs models in `runs` threads of its own; every method is called from the event loop."""

    def __init__(
        self,
        runs: int,
        max_rows: int,
        wait: float,
        on_run: Callable[[Runnable, int, float], None] = lambda model, rows, waited: None,
        on_scores: Callable[[Runnable, Scored], None] = lambda model, scored: None,
    ) -> None:
        self._pool = ThreadPoolExecutor(runs, thread_name_prefix="edgesparse-run")
        # Negative when runs wait behind the runners.
        self._runs = self._free = runs
        self._max_rows, self._wait = max_rows, wait
        self._groups: dict[_Key, list[_Waiting]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._on_run, self._on_scores = on_run, on_scores
        # Seconds per value of a window, learned from the runs.
        self._pace = 0.0

    async def scores(self, model: Runnable, window: FloatArray) -> FloatArray:
        """Scores [n, k] of `window` [n, channels, steps]; cancel to give up.

        Raises:
            Exception: what the model run raised; every request of the run gets it.
        """
        rows = self._limit(model, "scores")
        parts = [window[i : i + rows] for i in range(0, len(window), rows)]
        results: list[FloatArray] = await self._run(model, "scores", parts)
        return results[0] if len(results) == 1 else np.concatenate(results)

    async def explain(self, model: Runnable, window: FloatArray) -> Any:
        """What `model.explain` returns for `window`; cancel to give up."""
        return (await self._run(model, "explain", [window]))[0]

    async def _run(self, model: Runnable, operation: Operation, parts: list[FloatArray]) -> list[Any]:
        loop = asyncio.get_running_loop()
        now, size = loop.time(), 0
        group = self._groups.setdefault((model, operation, parts[0].shape[1:]), [])
        answers: list[asyncio.Future[Any]] = []
        for part in parts:
            size += part.size
            group.append(_Waiting(part, loop.create_future(), now, size))
            answers.append(group[-1].answer)
        self._start_due()
        try:
            return await asyncio.gather(*answers)
        finally:
            # One that failed leaves nobody to wait for the others.
            for answer in answers:
                answer.cancel()

    def close(self) -> None:
        """End the threads; what runs is finished first."""
        self._pool.shutdown(wait=True)

    def _limit(self, model: Runnable, operation: Operation) -> int:
        if operation == "explain":
            return 1
        return self._max_rows if model.max_rows is None else min(model.max_rows, self._max_rows)

    def _start_due(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        loop = asyncio.get_running_loop()
        while self._free > -self._runs:
            waiting = {
                key: [item for item in group if not item.answer.done()] for key, group in self._groups.items()
            }
            self._groups = {key: group for key, group in waiting.items() if group}
            now = loop.time()
            since = {key: min(item.since for item in group) for key, group in self._groups.items()}
            if self._free <= 0:
                ready = [key for key in since if self._is_full(key) and self._is_short(key)]
            else:
                ready = [key for key in since if since[key] + self._wait <= now or self._is_full(key)]
            if not ready:
                if since and self._free > 0:
                    self._timer = loop.call_at(min(since.values()) + self._wait, self._start_due)
                return
            self._start(min(ready, key=lambda key: min(map(self._turn, self._groups[key]))))

    def _turn(self, item: _Waiting) -> float:
        return item.since + YIELD * self._pace * item.size

    def _is_full(self, key: _Key) -> bool:
        limit, rows = self._limit(key[0], key[1]), 0
        for item in self._groups[key]:
            rows += len(item.window)
            if rows >= limit:
                return True
        return False

    def _is_short(self, key: _Key) -> bool:
        channels, steps = key[2]
        # A request to explain several windows is one run, whatever the limit.
        rows = max(self._limit(key[0], key[1]), *(len(item.window) for item in self._groups[key]))
        return 0 < self._pace * rows * channels * steps <= _SHORT

    def _start(self, key: _Key) -> None:
        model, operation, _ = key
        group, limit = self._groups[key], self._limit(model, operation)
        group.sort(key=self._turn)
        parts = [group.pop(0)]
        rows = len(parts[0].window)
        while group and rows + len(group[0].window) <= limit:
            parts.append(group.pop(0))
            rows += len(parts[-1].window)
        self._free -= 1
        loop = asyncio.get_running_loop()
        run = _Run(parts, onnxruntime.RunOptions())
        for item in parts:
            item.answer.add_done_callback(lambda _, run=run: _end_if_unwanted(run))  # type: ignore[misc]
        waited = loop.time() - min(item.since for item in parts)
        self._on_run(model, rows, waited)
        work = loop.run_in_executor(
            self._pool, _compute_timed, model, operation, [p.window for p in parts], run.options
        )
        work.add_done_callback(lambda done: self._finish(parts, done))
        if operation == "scores":
            work.add_done_callback(lambda done: self._tell(model, parts, waited, done))

    def _tell(
        self, model: Runnable, parts: list[_Waiting], waited: float, done: asyncio.Future[_Done]
    ) -> None:
        """Tell of the windows that were answered."""
        if done.cancelled() or done.exception() is not None:
            return
        results, _, busy = done.result()
        good = [(p.window, r) for p, r in zip(parts, results, strict=True) if isinstance(r, np.ndarray)]
        if good:
            windows, scores = zip(*good, strict=True)
            self._on_scores(model, Scored(windows, scores, busy * len(good) / len(parts), waited))

    def _finish(self, parts: list[_Waiting], done: asyncio.Future[_Done]) -> None:
        self._free += 1
        error = done.exception()
        results, seconds, _ = ([error] * len(parts), 0.0, 0.0) if error is not None else done.result()
        for item, result in zip(parts, results, strict=True):
            if item.answer.done():
                continue
            if isinstance(result, BaseException):
                item.answer.set_exception(result)
            else:
                item.answer.set_result(result)
        if error is None:
            pace = seconds / max(1, sum(item.window.size for item in parts))
            self._pace = pace if self._pace == 0 else self._pace + (pace - self._pace) / 8
        self._start_due()


def _end_if_unwanted(run: _Run) -> None:
    """End a model run that nobody waits for: a request that timed out must not keep a runner busy."""
    if all(item.answer.cancelled() for item in run.parts):
        run.options.terminate = True


def _compute_timed(
    model: Runnable, operation: Operation, windows: list[FloatArray], options: onnxruntime.RunOptions
) -> _Done:
    """As `_compute`, and the seconds that it took."""
    start, busy = time.perf_counter(), time.thread_time()
    results = _compute(model, operation, windows, options)
    return results, time.perf_counter() - start, time.thread_time() - busy


def _compute(
    model: Runnable, operation: Operation, windows: list[FloatArray], options: onnxruntime.RunOptions
) -> list[Any]:
    """What each window's request gets: its rows, its explanation, or the exception that it caused."""
    if operation == "explain":
        return [model.explain(windows[0], options)]
    if len(windows) == 1:
        return [model.scores(windows[0], options)]
    try:
        rows = model.scores(np.concatenate(windows), options)
        return np.split(rows, np.cumsum([len(window) for window in windows])[:-1])
    except EdgeSparseError:
        return [_scores_or_error(model, window, options) for window in windows]


def _scores_or_error(
    model: Runnable, window: FloatArray, options: onnxruntime.RunOptions
) -> FloatArray | EdgeSparseError:
    try:
        return model.scores(window, options)
    except EdgeSparseError as error:
        return error
