"""`Exchange`: one request and its answer on a connection, from first byte to last."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

_KEY = "edgesparse.exchange"


class Exchange:
    """What the application may know of the connection beneath a request.

    Attributes:
        deadline: when the answer must be sent, on the event loop's clock.
        is_crowded: more connections than allowed were open when the head was complete.
        is_complete: the whole request has arrived.
        is_over: the answer is sent, or the connection is lost.
    """

    def __init__(self, deadline: float, is_crowded: bool) -> None:
        self.deadline = deadline
        self.is_crowded = is_crowded
        self.is_complete = False
        self.is_over = False
        self._callbacks: list[Callable[[], None]] = []

    def when_over(self, callback: Callable[[], None]) -> None:
        """Call `callback` once the answer is sent or the connection is lost."""
        if self.is_over:
            callback()
        else:
            self._callbacks.append(callback)

    def end(self) -> None:
        """The answer is sent, or the connection is lost."""
        if not self.is_over:
            self.is_over = True
            callbacks, self._callbacks = self._callbacks, []
            for callback in callbacks:
                callback()

    def attach(self, scope: Any) -> None:
        """Make this the exchange of a request."""
        scope["state"][_KEY] = self

    @staticmethod
    def of(scope: Mapping[str, Any]) -> Exchange:
        """The exchange of a request."""
        exchange: Exchange = scope["state"][_KEY]
        return exchange
