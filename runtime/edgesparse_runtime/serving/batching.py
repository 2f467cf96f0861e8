"""Dynamic batching: windows of one model and one length share a model run.

Rules:
1. Only windows of the same loaded model, channel count and length share a run; nothing is padded.
2. A run starts when a runner is free and a group is full, or its oldest window has waited `wait` seconds.
3. Among groups that may start, the one whose oldest window came first does.
4. A model whose answers depend on what shares the run (`max_rows` 1) runs window by window.
5. A window whose request gave up before its run started is left out.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
import onnxruntime

from edgesparse_runtime.serving.protocol.tensors import FloatArray


class Runnable(Protocol):
    """A loaded model."""

    @property
    def max_rows(self) -> int | None:
        """Windows that may share a run; None = as many as the server allows."""

    def scores(self, window: FloatArray, options: onnxruntime.RunOptions | None = None) -> FloatArray:
        """Scores [n, k] of windows [n, channels, steps]."""


@dataclass(eq=False)
class _Waiting:
    window: FloatArray
    answer: asyncio.Future[FloatArray]
    since: float


@dataclass(eq=False)
class _Run:
    """What was started: its requests, and the handle that ends it when all of them gave up."""

    parts: list[_Waiting]
    options: onnxruntime.RunOptions


_Result = TypeVar("_Result")
_Key = tuple[Runnable, tuple[int, ...]]


class Batcher:
    """Runs models in `runs` threads of its own; every method is called from the event loop."""

    def __init__(
        self,
        runs: int,
        max_rows: int,
        wait: float,
        on_run: Callable[[Runnable, int, float], None] = lambda model, rows, waited: None,
    ) -> None:
        self._pool = ThreadPoolExecutor(runs, thread_name_prefix="edgesparse-run")
        self._free = runs
        self._max_rows, self._wait = max_rows, wait
        self._groups: dict[_Key, deque[_Waiting]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._on_run = on_run

    async def scores(self, model: Runnable, window: FloatArray) -> FloatArray:
        """Scores [n, k] of `window` [n, channels, steps]; cancel to give up.

        Raises:
            Exception: what the model run raised; every request of the run gets it.
        """
        loop = asyncio.get_running_loop()
        item = _Waiting(window, loop.create_future(), loop.time())
        self._groups.setdefault((model, window.shape[1:]), deque()).append(item)
        self._start_what_may()
        return await item.answer

    async def call(self, work: Callable[[], _Result]) -> _Result:
        """Something else that computes, in the same threads."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    def close(self) -> None:
        """Ends the threads; what runs is finished first."""
        self._pool.shutdown(wait=True)

    def _limit(self, model: Runnable) -> int:
        return self._max_rows if model.max_rows is None else min(model.max_rows, self._max_rows)

    def _start_what_may(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        loop = asyncio.get_running_loop()
        while self._free and self._groups:
            now = loop.time()
            ready, due = None, None
            for key, group in self._groups.items():
                while group and group[0].answer.done():
                    group.popleft()
                if not group:
                    continue
                since = group[0].since
                if since + self._wait <= now or self._is_full(key, group):
                    if ready is None or since < self._groups[ready][0].since:
                        ready = key
                elif due is None or since < due:
                    due = since
            self._groups = {key: group for key, group in self._groups.items() if group}
            if ready is None:
                if due is not None:
                    self._timer = loop.call_at(due + self._wait, self._start_what_may)
                return
            self._start(ready)

    def _is_full(self, key: _Key, group: deque[_Waiting]) -> bool:
        limit, rows = self._limit(key[0]), 0
        for item in group:
            rows += len(item.window)
            if rows >= limit:
                return True
        return False

    def _start(self, key: _Key) -> None:
        model, _ = key
        group, limit = self._groups[key], self._limit(key[0])
        parts: list[_Waiting] = []
        rows = 0
        while group and (not parts or rows + len(group[0].window) <= limit):
            item = group.popleft()
            if not item.answer.done():
                parts.append(item)
                rows += len(item.window)
        if not group:
            del self._groups[key]
        if not parts:
            return
        self._free -= 1
        loop = asyncio.get_running_loop()
        run = _Run(parts, onnxruntime.RunOptions())
        for item in parts:
            item.answer.add_done_callback(lambda _, run=run: _end_if_unwanted(run))  # type: ignore[misc]
        self._on_run(model, rows, loop.time() - parts[0].since)
        work = loop.run_in_executor(
            self._pool, _compute, model, [p.window for p in parts], limit, run.options
        )
        work.add_done_callback(lambda done: self._finish(parts, done))

    def _finish(self, parts: list[_Waiting], done: asyncio.Future[FloatArray]) -> None:
        self._free += 1
        error = done.exception()
        rows = None if error is not None else done.result()
        at = 0
        for item in parts:
            count = len(item.window)
            if not item.answer.done():
                if rows is None:
                    assert error is not None
                    item.answer.set_exception(error)
                else:
                    item.answer.set_result(rows[at : at + count])
            at += count
        self._start_what_may()


def _end_if_unwanted(run: _Run) -> None:
    """Ends a model run that nobody waits for any more: a request that timed out must not hold a runner."""
    if all(item.answer.cancelled() for item in run.parts):
        run.options.terminate = True


def _compute(
    model: Runnable, windows: list[FloatArray], limit: int, options: onnxruntime.RunOptions
) -> FloatArray:
    batch = windows[0] if len(windows) == 1 else np.concatenate(windows)
    if len(batch) <= limit:
        return model.scores(batch, options)
    # One request of more windows than a run may have.
    return np.concatenate([model.scores(batch[i : i + limit], options) for i in range(0, len(batch), limit)])
