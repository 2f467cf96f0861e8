"""The bounded queue: how many requests, and bytes of them, are in the house at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

from edgesparse_runtime.serving.protocol.refusal import Refusal


class Admission:
    """Counts what was taken in and not yet answered; used from the event loop only.

    A request gets its place before its body is read: what waits in memory is bounded by `max_bodies`,
    whatever the clients send.
    """

    def __init__(self, places: int, max_body: int, max_bodies: int) -> None:
        self.taken = 0
        self.bytes = 0
        self._places, self._max_body, self._max_bodies = places, max_body, max_bodies
        # What an answer took of late: with a full queue, that is how long the queue takes to clear.
        self._seconds = 0.0

    def note(self, seconds: float) -> None:
        """Tell how long an answer took. Eight answers move the estimate most of the way."""
        self._seconds += (seconds - self._seconds) / 8

    @contextmanager
    def admit(self, length: int | None) -> Iterator[int]:
        """A place for one request; yields how many bytes it may send.

        Args:
            length: of the body as announced; None = not announced, so the largest is counted.

        Raises:
            Refusal: 413 when it is too large, 429 when the house is full.
        """
        if length is not None and length > self._max_body:
            raise Refusal(413, f"A request must be at most {self._max_body} bytes; got {length}.")
        size = self._max_body if length is None else length
        if self.taken >= self._places or self.bytes + size > self._max_bodies:
            wait = max(1, min(60, math.ceil(self._seconds)))
            raise Refusal(
                429,
                f"The queue of {self._places} requests is full; try again in {wait} s.",
                {"Retry-After": str(wait)},
            )
        self.taken += 1
        self.bytes += size
        try:
            yield size
        finally:
            self.taken -= 1
            self.bytes -= size
