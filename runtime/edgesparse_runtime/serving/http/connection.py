"""One connection: uvicorn's HTTP/1.1 protocol under limits that no client can stretch.

Rules:
1. An exchange has one deadline, counted from the first byte of its head: head, body, computing and writing
   share it. Then the connection is cut off, whatever its state. The application answers 408 or 504 at the
   deadline; `LAST_WORD` seconds later the connection is gone.
2. A head has at most `max_head` bytes; trailers count as head and are dropped.
3. A request that is answered before its body is complete ends the connection: what still arrives is read and
   dropped for at most `LINGER` seconds, so that the client sees the answer, and then the connection closes.
4. An offer to upgrade is ignored (RFC 9110, 7.8): the request is read as if it had none.
5. A request names its host exactly once, and its target is a path.
6. On a full server, whoever has kept it waiting longest is disconnected first.
7. Requests that arrive while another is answered wait, and nothing more is read until they have started.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from http import HTTPStatus
from typing import Any

import httptools
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from edgesparse_runtime.serving.http.exchange import Exchange
from edgesparse_runtime.serving.http.limits import ConnectionLimits

# Seconds for the sentence that tells a client that its time is over.
LAST_WORD = 1.0
# Seconds that a refused body is read and dropped, so that the client reads the refusal and not a reset.
LINGER = 1.0
_LOOK = 0.02
# What a header costs besides its name and value: colon, blank, end of line.
_HEADER_EXTRA = 4


class _Flow(FlowControl):
    """Reads nothing more while requests wait for their turn."""

    def __init__(self, transport: asyncio.Transport, connection: Connection) -> None:
        super().__init__(transport)
        self._connection = connection

    def resume_reading(self) -> None:
        if not self._connection.pipeline:
            super().resume_reading()


class _Transport:
    """The transport as uvicorn sees it: closing it while a body still arrives lingers."""

    def __init__(self, transport: asyncio.Transport, connection: Connection) -> None:
        self._transport = transport
        self._connection = connection
        self.written = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    @property
    def sent(self) -> int:
        """Bytes that have left this process."""
        return self.written - self._transport.get_write_buffer_size()

    def write(self, data: bytes) -> None:
        if not self._connection.is_deaf:
            self.written += len(data)
            self._transport.write(data)

    def is_closing(self) -> bool:
        return self._connection.is_deaf or self._transport.is_closing()

    def close(self) -> None:
        if not self._connection.linger():
            self._transport.close()


class Connection(HttpToolsProtocol):
    """A connection; `connection_class` binds its limits."""

    limits: ConnectionLimits
    # Connections that the server waits for, oldest first, and since when.
    waiting: dict[Connection, float]

    is_deaf = False
    _wire: _Transport
    _alarm: asyncio.TimerHandle | None = None
    # Start of the exchange whose head or body arrives, on the loop's clock.
    _began = 0.0
    # Bytes of the present head that callbacks reported, and those that none has reported yet.
    _head = 0
    _unreported = 0
    _heads = 0
    _is_in_head = True
    _is_upgrade = False

    def connection_made(self, transport: Any) -> None:
        self._wire = _Transport(transport, self)
        super().connection_made(self._wire)  # type: ignore[arg-type]
        self.flow = _Flow(transport, self)
        # By uvicorn's cycle, in the order in which they are answered.
        self._exchanges: dict[Any, Exchange] = {}
        self._answered: set[Any] = set()
        self._wait()
        self._begin()
        if len(self.connections) > self.limits.most:
            self._make_room(0.0)
        elif len(self.connections) > self.limits.connections:
            self._make_room(self.limits.patience)

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        self.waiting.pop(self, None)
        super().connection_lost(exc)
        for exchange in list(self._exchanges.values()):
            exchange.end()
        self._exchanges.clear()
        self.pipeline.clear()

    def data_received(self, data: bytes) -> None:
        if self.is_deaf:
            return
        self._unset_keepalive_if_required()
        if self._alarm is None:
            # The first byte after an exchange: the next one has begun.
            self._begin()
        was_in_head, heads = self._is_in_head, self._heads
        try:
            self._feed(data)
        except httptools.HttpParserError:
            self._refuse_malformed()
            return
        if was_in_head and self._is_in_head and heads == self._heads and not self.is_deaf:
            # No head ended in these bytes: all of them belong to one that is not complete.
            self._unreported += len(data)
            self._check_head(self._unreported)

    def _feed(self, data: bytes) -> None:
        while not self.is_deaf:
            try:
                self.parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as offer:
                data = self._without_upgrade(data[offer.args[0] :])

    def _without_upgrade(self, rest: bytes) -> bytes:
        """The request again without its offer, for a new parser: this one skips the body."""
        method = self.parser.get_method()
        if method == b"CONNECT":
            self._refuse(HTTPStatus.NOT_IMPLEMENTED, "The method must be GET or POST.")
            return b""
        lines = [b"%b %b HTTP/%b" % (method, self.url, self.parser.get_http_version().encode())]
        lines += [b"%b: %b" % (name, value) for name, value in self.headers if name != b"upgrade"]
        self._is_upgrade = False
        self.parser = httptools.HttpRequestParser(self)
        with contextlib.suppress(AttributeError):  # as uvicorn's own parser
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        return b"\r\n".join([*lines, b"", b""]) + rest

    def on_message_begin(self) -> None:
        self._head, self._unreported, self._is_in_head, self._is_upgrade = 0, 0, True, False
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        self._report_head(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._report_head(len(name) + len(value) + _HEADER_EXTRA)
        if self._is_in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._is_in_head, self._unreported = False, 0
        self._heads += 1
        if self.parser.should_upgrade():
            self._is_upgrade = True
            return
        problem = self._find_problem()
        if problem is not None:
            self._refuse(HTTPStatus.BAD_REQUEST, problem)
            raise ValueError(problem)  # ends the parser's work on these bytes
        is_full = len(self.connections) > self.limits.connections
        crowded = is_full and not self._make_room(self.limits.patience)
        exchange = Exchange(self._began + self.limits.seconds, crowded)
        exchange.attach(self.scope)
        super().on_headers_complete()
        self._exchanges[self.cycle] = exchange
        if len(self._exchanges) == 1:
            self._arm(exchange.deadline + LAST_WORD)

    def _find_problem(self) -> str | None:
        hosts = sum(name == b"host" for name, _ in self.headers)
        if hosts > 1 or (hosts == 0 and self.parser.get_http_version() == "1.1"):
            return f"The request must have one Host header; got {hosts}."
        if not self.url.startswith(b"/"):
            return "The request target must be a path."
        return None

    def on_body(self, body: bytes) -> None:
        if not self._is_upgrade and not self.is_deaf:
            super().on_body(body)

    def on_message_complete(self) -> None:
        if self._is_upgrade or self.is_deaf:
            return
        self._is_in_head, self._head = True, 0
        self.waiting.pop(self, None)
        if self.cycle in self._exchanges:
            self._exchanges[self.cycle].is_complete = True
        super().on_message_complete()

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        exchange = self._exchanges.get(cycle)
        if exchange is not None:
            # It waited for its turn on this connection; its time begins now.
            exchange.deadline = self.loop.time() + self.limits.seconds
            self._arm(exchange.deadline + LAST_WORD)
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        done = next((cycle for cycle in self._exchanges if cycle not in self._answered), None)
        if done is not None:
            self._answered.add(done)
            self._wait()
            self.loop.call_soon(self._look_if_sent, done, self._wire.written)
        super().on_response_complete()

    def _look_if_sent(self, cycle: Any, until: int) -> None:
        if self._wire.sent < until:
            if cycle in self._exchanges:
                self.loop.call_later(_LOOK, self._look_if_sent, cycle, until)
            return
        exchange = self._exchanges.pop(cycle, None)
        self._answered.discard(cycle)
        if exchange is None:
            return
        exchange.end()
        if self._exchanges or self.is_deaf or self._wire.is_closing():
            return
        if self._is_between():
            self._disarm()
        else:
            self._begin()
        self._wait()

    def linger(self) -> bool:
        """Close once the client has had time to read the answer; false when nothing more can arrive."""
        transport = self._wire._transport
        if self.is_deaf or transport.is_closing():
            return self.is_deaf and not transport.is_closing()
        if self._is_between():
            return False
        self.is_deaf = True
        with contextlib.suppress(NotImplementedError, RuntimeError, OSError):  # TLS cannot close one side
            transport.write_eof()
        self.flow.resume_reading()
        self._arm(min(self.loop.time() + LINGER, self._alarm.when() if self._alarm else float("inf")))
        return True

    def send_400_response(self, msg: str) -> None:
        """Uvicorn's answer to what the parser refused; ours is JSON, as every other answer."""
        self._refuse_malformed()

    def _refuse_malformed(self) -> None:
        if self._wire.is_closing():
            return  # refused already, with a better sentence
        if isinstance(sys.exception(), httptools.HttpParserInvalidMethodError):
            self._refuse(HTTPStatus.NOT_IMPLEMENTED, "The method must be GET or POST.")
        else:
            self._refuse(HTTPStatus.BAD_REQUEST, "The request must be well-formed HTTP/1.1.")

    def _is_between(self) -> bool:
        """No part of a request has arrived that is not complete."""
        return self._is_in_head and not self._head and not self._unreported

    def _report_head(self, size: int) -> None:
        self._head += size
        if not self._check_head(self._head):
            raise ValueError("the head of a request is too long")  # ends the parser's work on these bytes

    def _check_head(self, size: int) -> bool:
        fits = size <= self.limits.max_head
        if not fits:
            self._refuse(
                HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
                f"The head of a request must be at most {self.limits.max_head} bytes.",
            )
        return fits

    def _refuse(self, status: HTTPStatus, sentence: str) -> None:
        if self._wire.is_closing():
            return
        self.limits.on_refused(status)
        # Between two packets of another answer a sentence would be read as part of it.
        if not any(not cycle.response_complete and cycle.response_started for cycle in self._exchanges):
            body = json.dumps({"error": sentence}).encode()
            head = (
                f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: application/json\r\n"
                f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
            )
            self._wire.write(head.encode() + body)
        self._is_in_head, self._head = False, 1
        self._wire.close()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._wait()

    def resume_writing(self) -> None:
        super().resume_writing()
        if len(self._exchanges) > len(self._answered):
            self.waiting.pop(self, None)

    def _wait(self) -> None:
        """The server waits for this client from now on."""
        self.waiting.pop(self, None)
        self.waiting[self] = self.loop.time()

    def _make_room(self, patience: float) -> bool:
        """Disconnect whoever has kept the server waiting longest, and longer than `patience` seconds."""
        oldest = next(iter(self.waiting), None)
        if oldest is None or self.loop.time() - self.waiting[oldest] < patience:
            return False
        oldest._cut_off("crowded")
        return True

    def _begin(self) -> None:
        self._began = self.loop.time()
        self._arm(self._began + self.limits.seconds)

    def _arm(self, when: float) -> None:
        self._disarm()
        self._alarm = self.loop.call_at(when, self._cut_off, "deadline")

    def _disarm(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def _cut_off(self, reason: str) -> None:
        self._disarm()
        self.waiting.pop(self, None)
        self.is_deaf = True
        self.limits.on_cut(reason)
        self._wire.abort()


def connection_class(limits: ConnectionLimits) -> type[Connection]:
    """The protocol class that uvicorn makes one server's connections of."""
    return type("LimitedConnection", (Connection,), {"limits": limits, "waiting": {}})
