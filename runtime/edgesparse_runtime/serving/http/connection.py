"""One connection: uvicorn's, with bounds on a request's head in bytes and in time, and on connections."""

from __future__ import annotations

import asyncio
import json
import sys
from http import HTTPStatus
from typing import Any

import httptools
from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_CROWDED = "edgesparse.is_crowded"
# What a header costs besides its name and value: colon, blank, end of line.
_HEADER_EXTRA = 4


def is_crowded(scope: Scope) -> bool:
    """Whether more connections than allowed were open when this request's head was complete."""
    return bool(scope.get("state", {}).get(_CROWDED))


def bounded_connection(max_head: int, seconds: float, connections: int) -> type[HttpToolsProtocol]:
    """A protocol class for uvicorn.

    Args:
        max_head: a head of more bytes is refused, however it is cut into packets.
        seconds: a head that takes longer is cut off.
        connections: with more open ones, requests are marked for `is_crowded`.
    """

    class BoundedConnection(HttpToolsProtocol):
        """Counts what arrives before the head of a request is complete."""

        # Bytes of a head that no callback has told of yet, and those that callbacks told of.
        _head = 0
        _told = 0
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
                    self._refuse_head()

        def on_message_begin(self) -> None:
            self._head, self._told, self._in_head = 0, 0, True
            super().on_message_begin()

        def on_url(self, url: bytes) -> None:
            self._tell(len(url))
            super().on_url(url)

        def on_header(self, name: bytes, value: bytes) -> None:
            self._tell(len(name) + len(value) + _HEADER_EXTRA)
            super().on_header(name, value)

        def on_headers_complete(self) -> None:
            self._head, self._in_head = 0, False
            self._heads += 1
            self._disarm()
            self.scope["state"][_CROWDED] = len(self.connections) > connections
            super().on_headers_complete()

        def on_message_complete(self) -> None:
            self._in_head = True
            super().on_message_complete()

        def send_400_response(self, msg: str) -> None:
            """Uvicorn's word on what the parser refused; ours is JSON, as every other answer."""
            if self.transport.is_closing():
                return  # The head was too long: that is said already.
            if isinstance(sys.exception(), httptools.HttpParserInvalidMethodError):
                self._refuse(HTTPStatus.NOT_IMPLEMENTED, "The method must be GET or POST.")
            else:
                self._refuse(HTTPStatus.BAD_REQUEST, "The request must be well-formed HTTP/1.1; it is not.")

        def _tell(self, size: int) -> None:
            self._told += size
            if self._told > max_head:
                self._refuse_head()
                # Ends the parser's work on these bytes.
                raise ValueError("the head of a request is too long")

        def _refuse_head(self) -> None:
            self._disarm()
            self._refuse(
                HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
                f"The head of a request must be at most {max_head} bytes.",
            )

        def _refuse(self, status: HTTPStatus, sentence: str) -> None:
            body = json.dumps({"error": sentence}).encode()
            head = (
                f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: application/json\r\n"
                f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
            )
            self.transport.write(head.encode() + body)
            self.transport.close()

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
