"""One connection: uvicorn's, with a bound on the head of a request in bytes and in time."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


def bounded_connection(max_head: int, seconds: float) -> type[HttpToolsProtocol]:
    """A protocol class for uvicorn: a head of more bytes is refused, one that takes longer is cut off."""

    class BoundedConnection(HttpToolsProtocol):
        """Counts what arrives before the head of a request is complete."""

        _head = 0
        _heads = 0
        _in_head = True
        _alarm: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._arm()

        def connection_lost(self, exc: Exception | None) -> None:
            self._disarm()
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            was_in_head, heads = self._in_head, self._heads
            super().data_received(data)
            is_head = was_in_head and self._in_head and heads == self._heads
            if is_head and not self.transport.is_closing():
                # No head ended in these bytes: all of them belong to one that goes on.
                self._head += len(data)
                if self._alarm is None:
                    self._arm()
                if self._head > max_head:
                    self._disarm()
                    self.send_400_response(f"The head of a request must be at most {max_head} bytes.")

        def on_message_begin(self) -> None:
            self._head, self._in_head = 0, True
            super().on_message_begin()

        def on_headers_complete(self) -> None:
            self._head, self._in_head = 0, False
            self._heads += 1
            self._disarm()
            super().on_headers_complete()

        def on_message_complete(self) -> None:
            self._in_head = True
            super().on_message_complete()

        def _arm(self) -> None:
            self._alarm = self.loop.call_later(seconds, self._cut_off)

        def _disarm(self) -> None:
            if self._alarm is not None:
                self._alarm.cancel()
                self._alarm = None

        def _cut_off(self) -> None:
            self._alarm = None
            if not self.transport.is_closing():
                self.transport.close()

    return BoundedConnection
