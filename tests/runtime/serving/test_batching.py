"""The batcher: what shares a run, and what may wait behind a runner."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import numpy as np
import onnxruntime
import pytest

from edgesparse_runtime.errors import EdgeSparseError
from edgesparse_runtime.serving.batching import Batcher
from edgesparse_runtime.serving.protocol.tensors import FloatArray

ROWS = 4


class Model:
    """Answers with the first value of each window; a run waits for its turn."""

    max_rows = None

    def __init__(self) -> None:
        self.begun: list[int] = []
        self.may_run = threading.Semaphore(0)

    def scores(self, window: FloatArray, options: onnxruntime.RunOptions | None = None) -> FloatArray:
        if options is not None and options.terminate:
            raise EdgeSparseError("ended")
        self.begun.append(len(window))
        assert self.may_run.acquire(timeout=10)
        return window[:, 0, :1]

    def explain(self, window: FloatArray, options: onnxruntime.RunOptions | None = None) -> Any:
        return self.scores(window, options)


def windows(count: int, first: int = 0) -> list[FloatArray]:
    return [np.full((1, 1, 3), first + i, np.float32) for i in range(count)]


async def ask(batcher: Batcher, model: Model, asked: list[FloatArray]) -> list[asyncio.Task[FloatArray]]:
    tasks = [asyncio.create_task(batcher.scores(model, one)) for one in asked]
    await asyncio.sleep(0.05)
    return tasks


async def learn_pace(batcher: Batcher, model: Model, pace: float) -> None:
    """As though runs had taken so many seconds per value."""
    model.may_run.release()
    await (await ask(batcher, model, windows(1)))[0]
    batcher._pace = pace
    model.begun.clear()


def started(batcher: Batcher) -> int:
    return batcher._runs - batcher._free


@pytest.mark.parametrize(("pace", "waits_behind"), [(1e-5, 1), (1.0, 0)])
def test_a_full_and_short_run_waits_behind_a_runner(pace: float, waits_behind: int) -> None:
    async def main() -> None:
        model, batcher = Model(), Batcher(1, ROWS, 0.0)
        await learn_pace(batcher, model, pace)
        first = await ask(batcher, model, windows(1))
        rest = await ask(batcher, model, windows(3 * ROWS, 100))
        assert model.begun == [1]
        assert started(batcher) == 1 + waits_behind
        for _ in range(4):
            model.may_run.release()
        results = await asyncio.gather(*first, *rest)
        assert [float(one[0, 0]) for one in results] == [0.0, *(100.0 + i for i in range(3 * ROWS))]
        assert model.begun == [1, ROWS, ROWS, ROWS]
        assert started(batcher) == 0
        batcher.close()

    asyncio.run(main())


def test_a_run_that_is_not_full_waits_for_more_windows() -> None:
    async def main() -> None:
        model, batcher = Model(), Batcher(1, ROWS, 0.0)
        await learn_pace(batcher, model, 1e-5)
        first = await ask(batcher, model, windows(1))
        rest = await ask(batcher, model, windows(ROWS - 1))
        assert started(batcher) == 1
        rest += await ask(batcher, model, windows(1))
        assert started(batcher) == 2
        model.may_run.release(2)
        await asyncio.gather(*first, *rest)
        assert model.begun == [1, ROWS]
        batcher.close()

    asyncio.run(main())


def test_an_explanation_of_many_windows_is_as_long_as_all_of_them() -> None:
    async def main() -> None:
        model, batcher = Model(), Batcher(1, ROWS, 0.0)
        # One window would take 15 ms, eight take 120.
        await learn_pace(batcher, model, 5e-3)
        first = await ask(batcher, model, windows(1))
        asked = [
            asyncio.create_task(batcher.explain(model, np.zeros((count, 1, 3), np.float32)))
            for count in (8, 1)
        ]
        await asyncio.sleep(0.05)
        assert started(batcher) == 1
        model.may_run.release(3)
        await asyncio.gather(*first, *asked)
        batcher.close()

    asyncio.run(main())


def test_a_run_behind_a_runner_that_nobody_waits_for_is_ended() -> None:
    async def main() -> None:
        model, batcher = Model(), Batcher(1, ROWS, 0.0)
        await learn_pace(batcher, model, 1e-5)
        first = await ask(batcher, model, windows(1))
        for task in await ask(batcher, model, windows(ROWS)):
            task.cancel()
        await asyncio.sleep(0.05)
        model.may_run.release()
        await asyncio.gather(*first)
        assert model.begun == [1]
        last = await ask(batcher, model, windows(1, 7))
        model.may_run.release()
        assert float((await last[0])[0, 0]) == 7.0
        assert started(batcher) == 0
        batcher.close()

    asyncio.run(main())
