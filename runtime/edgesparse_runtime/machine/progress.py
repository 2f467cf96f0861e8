"""Progress with an ETA on stderr: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

# Between two plain lines; a log should stay readable.
LINE_SECONDS = 10.0


class Progress(Protocol):
    """What a long job calls as it proceeds."""

    def advance(self, steps: int = 1, note: str = "") -> None:
        """`steps` more are done; `note` is shown beside the bar."""


@contextmanager
def progress(title: str, total: int, *, start: int = 0, quiet: bool = False) -> Iterator[Progress]:
    """Show how far a job of `total` steps is, of which `start` were done before."""
    if quiet:
        yield _Silent()
    elif sys.stderr.isatty():
        try:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar
        except ImportError:
            yield _Lines(title, total, start)
            return
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task(title, total=total, completed=start, note="")
            yield _Rich(bar, task)
    else:
        yield _Lines(title, total, start)


class _Silent:
    def advance(self, steps: int = 1, note: str = "") -> None:
        return


class _Rich:
    def __init__(self, bar: object, task: object) -> None:
        self._bar, self._task = bar, task

    def advance(self, steps: int = 1, note: str = "") -> None:
        self._bar.update(self._task, advance=steps, note=note)  # type: ignore[attr-defined]


class _Lines:
    def __init__(self, title: str, total: int, start: int) -> None:
        self._title, self._total, self._start, self._done = title, total, start, start
        self._began = self._shown = time.monotonic()

    def advance(self, steps: int = 1, note: str = "") -> None:
        self._done += steps
        now = time.monotonic()
        if now - self._shown < LINE_SECONDS and self._done < self._total:
            return
        self._shown = now
        new = max(self._done - self._start, 1)
        eta = (now - self._began) / new * (self._total - self._done)
        tail = f"  {note}" if note else ""
        line = f"{self._title}: {self._done}/{self._total}  {now - self._began:.0f} s, ETA {eta:.0f} s{tail}"
        print(line, file=sys.stderr, flush=True)
