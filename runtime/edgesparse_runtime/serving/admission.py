"""Admission control: how many requests, and bytes of requests and answers, are in flight at a time."""

from __future__ import annotations

import math
from collections.abc import Callable

from edgesparse_runtime.serving.protocol.refusal import Refusal

# Answers of at most so many bytes need no room of their own: a request is larger than that.
SMALL_ANSWER = 64 << 10


class Admission:
    """Counts what has arrived and is not yet sent; used from the event loop only.

    Rules:
    1. Bytes count when they arrive, not when they are announced: an announcement costs the sender nothing.
    2. When the bodies in flight fill `max_bodies`, the one that has been arriving longest is given up.
    3. A request takes a place in the queue when its body is complete, and keeps it until its answer is sent.
    4. Answers larger than `SMALL_ANSWER` share `max_answers` bytes until they are sent.
    """

    def __init__(self, places: int, max_body: int, max_bodies: int, max_answers: int) -> None:
        self.taken = 0
        self.body_bytes = 0
        self.answer_bytes = 0
        self.max_body = max_body
        self._places, self._max_bodies, self._max_answers = places, max_bodies, max_answers
        # Bodies that arrive, oldest first.
        self._arriving: dict[Place, None] = {}
        # What an answer took of late: with a full queue, that is how long the queue takes to clear.
        self._seconds = 0.0

    @property
    def bytes(self) -> int:
        """Bytes of requests and answers in flight."""
        return self.body_bytes + self.answer_bytes

    def note(self, seconds: float) -> None:
        """Record how long an answer took. Eight answers move the estimate most of the way."""
        self._seconds += (seconds - self._seconds) / 8

    def open(self, length: int | None, give_up: Callable[[], None]) -> Place:
        """A request whose body begins to arrive.

        Args:
            length: of the body as announced; None = not announced.
            give_up: called when the body must make room for others.

        Raises:
            Refusal: 413 when it is too large, 429 when the queue is full.
        """
        if length is not None and length > self.max_body:
            raise Refusal(413, f"A request must be at most {self.max_body} bytes; got {length}.")
        self.check_queue()
        place = Place(self, give_up)
        self._arriving[place] = None
        return place

    def check_queue(self) -> None:
        """Pass when there is a free place.

        Raises:
            Refusal: 429.
        """
        if self.taken >= self._places:
            raise self._busy(f"The queue of {self._places} requests is full")

    def make_room(self, place: Place, size: int) -> None:
        """Give up the oldest arriving bodies until `size` more bytes fit.

        Raises:
            Refusal: 429, `place` itself is the oldest.
        """
        while self.body_bytes + size > self._max_bodies:
            oldest = next(iter(self._arriving), place)
            if oldest is place:
                raise self._busy(f"Requests in flight fill {self._max_bodies} bytes")
            oldest.give_up()
            oldest.release()

    def reserve_answer(self, size: int) -> None:
        """Count the bytes of a large answer.

        Raises:
            Refusal: 429, too many large answers wait to be read.
        """
        if self.answer_bytes + size > self._max_answers:
            raise self._busy(f"Answers that wait to be read fill {self._max_answers} bytes")
        self.answer_bytes += size

    def arrived(self, place: Place) -> None:
        """Its body is complete: it takes a place in the queue."""
        self._arriving.pop(place, None)
        self.check_queue()
        self.taken += 1

    def forget(self, place: Place) -> None:
        """It is over."""
        self._arriving.pop(place, None)

    def _busy(self, reason: str) -> Refusal:
        wait = max(1, min(60, math.ceil(self._seconds)))
        return Refusal(429, f"{reason}; try again in {wait} s.", {"Retry-After": str(wait)})


class Place:
    """What one request holds of an `Admission`.

    Attributes:
        give_up: ends the request while its body arrives.
    """

    def __init__(self, admission: Admission, give_up: Callable[[], None]) -> None:
        self.give_up = give_up
        self._admission = admission
        self._body = self._answer = 0
        self._is_queued = False
        self._is_over = False

    def add(self, size: int) -> None:
        """Bytes of the body arrived.

        Raises:
            Refusal: 413 or 429.
        """
        admission = self._admission
        if self._body + size > admission.max_body:
            raise Refusal(413, f"A request must be at most {admission.max_body} bytes.")
        admission.make_room(self, size)
        self._body += size
        admission.body_bytes += size

    def complete(self) -> None:
        """The body is complete.

        Raises:
            Refusal: 429, the queue is full.
        """
        self._admission.arrived(self)
        self._is_queued = True

    def answer(self, size: int) -> None:
        """The answer takes so many bytes until it is sent.

        Raises:
            Refusal: 429.
        """
        if size > SMALL_ANSWER and not self._is_over:
            self._admission.reserve_answer(size)
            self._answer += size

    def release(self) -> None:
        """The answer is sent, or the client is gone."""
        if self._is_over:
            return
        self._is_over = True
        admission = self._admission
        admission.forget(self)
        admission.taken -= self._is_queued
        admission.body_bytes -= self._body
        admission.answer_bytes -= self._answer
