"""`Backlog`: what has arrived and waits to be scored, bounded in lines and in bytes."""

from __future__ import annotations

import heapq
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeVar

# Bytes of text and topics that wait to be scored.
MOST_BYTES = 64 << 20
# What a line costs besides its text and its topic.
_LINE_BYTES = 200
_TAKEN = 1000


class Item(Protocol):
    """A line of one source."""

    @property
    def text(self) -> str: ...

    @property
    def topic(self) -> str: ...


T = TypeVar("T", bound=Item)


class Backlog(Generic[T]):
    """A queue between one reading thread and the one that scores.

    A source that can wait (a pipe, a file) waits in `put` while the backlog is full: nothing is lost, and
    the writer of the pipe waits too. One that cannot (a broker) uses `offer`: when the backlog is full, the
    topic with most bytes in it loses its newest lines. Topics are taken from in rotation. So a topic that
    floods the backlog delays and loses only its own lines.

    Args:
        limit: most lines that wait.
        most_bytes: most bytes of text that wait.
        on_drop: told the topic of each line that is lost.
    """

    def __init__(
        self,
        limit: int,
        most_bytes: int = MOST_BYTES,
        on_drop: Callable[[str], None] = lambda topic: None,
    ) -> None:
        self._limit, self._most_bytes = limit, most_bytes
        self._on_drop = on_drop
        # By topic, the one whose turn it is first.
        self._queues: dict[str, deque[T]] = {}
        self._bytes: dict[str, int] = {}
        # A heap of negative sizes and topics. For each topic one at least is no smaller than what it has now.
        self._sizes: list[tuple[int, str]] = []
        self._lines = 0
        self._total = 0
        self._changed = threading.Condition()
        self._is_closed = False
        self._error: BaseException | None = None

    def put(self, items: Sequence[T]) -> None:
        """Append items, waiting for room; returns early when the backlog is closed."""
        with self._changed:
            for item in items:
                if self._is_full():
                    self._changed.notify_all()
                    self._changed.wait_for(lambda: not self._is_full() or self._is_closed)
                if self._is_closed:
                    return
                self._append(item)
            self._changed.notify_all()

    def offer(self, items: Sequence[T]) -> None:
        """Append items; what does not fit is lost."""
        with self._changed:
            for item in items:
                self._append(item)
                while self._is_over():
                    self._drop()
            self._changed.notify_all()

    def take(self, timeout: float) -> list[T] | None:
        """What waits, at most a thousand items; empty after `timeout` seconds; None when all is done.

        Raises:
            what the reader failed with, after everything that it read before.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._lines or self._is_closed, timeout)
            if self._lines:
                taken = [self._pop() for _ in range(min(_TAKEN, self._lines))]
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

    def _is_full(self) -> bool:
        return self._lines >= self._limit or self._total >= self._most_bytes

    def _is_over(self) -> bool:
        return self._lines > self._limit or (self._total > self._most_bytes and self._lines > 0)

    def _append(self, item: T) -> None:
        self._queues.setdefault(item.topic, deque()).append(item)
        self._count(item, 1)

    def _pop(self) -> T:
        """The oldest item of the topic whose turn it is."""
        topic = next(iter(self._queues))
        queue = self._queues.pop(topic)
        item = queue.popleft()
        if queue:
            self._queues[topic] = queue
        self._count(item, -1)
        return item

    def _drop(self) -> None:
        topic = self._largest()
        queue = self._queues[topic]
        self._count(queue.pop(), -1)
        if not queue:
            del self._queues[topic]
        self._on_drop(topic)

    def _largest(self) -> str:
        """The topic with most bytes, in a time that hardly grows with the number of topics."""
        while True:
            size, topic = self._sizes[0]
            now = self._bytes.get(topic, 0)
            if now == -size:
                return topic
            if now:
                heapq.heapreplace(self._sizes, (-now, topic))
            else:
                heapq.heappop(self._sizes)

    def _count(self, item: T, sign: int) -> None:
        size = sys.getsizeof(item.text) + sys.getsizeof(item.topic) + _LINE_BYTES
        self._lines += sign
        self._total += sign * size
        rest = self._bytes.get(item.topic, 0) + sign * size
        if rest:
            self._bytes[item.topic] = rest
        else:
            del self._bytes[item.topic]
        if sign > 0:
            heapq.heappush(self._sizes, (-rest, item.topic))
            if len(self._sizes) > 4 * len(self._bytes) + _TAKEN:
                self._sizes = [(-rest, topic) for topic, rest in self._bytes.items()]
                heapq.heapify(self._sizes)
