"""`Backlog`: what has arrived and waits to be scored, bounded."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from typing import Generic, TypeVar

T = TypeVar("T")


class Backlog(Generic[T]):
    """A queue between one reading thread and the one that scores.

    A source that can wait (a pipe, a file) waits in `put` while the backlog is full: nothing is lost, and
    whoever writes into the pipe waits too. One that cannot (a broker) uses `offer`, and counts what did not
    fit.

    Args:
        limit: most items that wait.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._items: deque[T] = deque()
        self._changed = threading.Condition()
        self._is_closed = False
        self._error: BaseException | None = None

    def put(self, items: Sequence[T]) -> None:
        """Append items, waiting for room; returns early when the backlog is closed."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._items) < self._limit or self._is_closed)
            self._items.extend(items)
            self._changed.notify_all()

    def offer(self, items: Sequence[T]) -> int:
        """Append what there is room for; returns how many items did not fit."""
        with self._changed:
            room = max(0, self._limit - len(self._items))
            self._items.extend(items[:room])
            self._changed.notify_all()
            return max(0, len(items) - room)

    def take(self, timeout: float) -> list[T] | None:
        """What waits, at most a thousand items; empty after `timeout` seconds; None when all is done.

        Raises:
            what the reader failed with, after everything that it read before.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._items or self._is_closed, timeout)
            if self._items:
                taken = [self._items.popleft() for _ in range(min(1000, len(self._items)))]
                self._changed.notify_all()
                return taken
            if not self._is_closed:
                return []
            if self._error is not None:
                raise self._error
            return None

    def close(self, error: BaseException | None = None) -> None:
        """Nothing more will come."""
        with self._changed:
            self._is_closed = True
            self._error = self._error or error
            self._changed.notify_all()

    @property
    def is_closed(self) -> bool:
        return self._is_closed
