"""Cells measured side by side: processes with one thread each, which end with their parent."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import Any

import torch

from edgesparse_export.poc.cell import Workplace, run_cell
from edgesparse_export.poc.plan import Cell

# Seconds between two looks at whether the parent is there.
_LOOK = 0.5
Measure = Callable[[Cell, Workplace], dict[str, Any]]
_place: Workplace | None = None


def run_cells(
    cells: Sequence[Cell], place: Workplace, jobs: int, run: Measure = run_cell
) -> Iterator[tuple[Cell, dict[str, Any]]]:
    """Each cell and what was measured of it, as they are complete.

    Args:
        jobs: trainings at a time. With 1 they run in this process, in their order, with torch's own threads.
        run: measures a cell in this process.
    """
    if jobs == 1 or len(cells) < 2:
        for cell in cells:
            yield cell, run(cell, place)
        return
    # Not forked: a copy of a process whose torch has threads may wait for a lock forever.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(jobs, len(cells)), context, _begin, (place, os.getpid())) as pool:
        waiting = {pool.submit(_run, cell): cell for cell in cells}
        try:
            for done in as_completed(waiting):
                yield waiting[done], done.result()
        except BaseException:
            # What is half done is lost anyway: nobody should wait for it.
            for process in multiprocessing.active_children():
                process.terminate()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _begin(place: Workplace, parent: int) -> None:
    global _place
    _place = place
    # Ctrl-C reaches a whole terminal; the parent ends its workers itself.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    """A parent that was killed cannot tell its workers."""
    while os.getppid() == parent:
        time.sleep(_LOOK)
    os._exit(1)


def _run(cell: Cell) -> dict[str, Any]:
    assert _place is not None
    return run_cell(cell, _place)
