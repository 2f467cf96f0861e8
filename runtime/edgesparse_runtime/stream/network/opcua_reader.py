"""The thread that reads an OPC UA server: one connection after the other, all variables together and evenly.

Apart from the address, so that no other source loads asyncio.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import threading
import time
from datetime import UTC, datetime
from typing import Any

from edgesparse_runtime.errors import EdgeSparseError, InputError
from edgesparse_runtime.stream.backlog import Backlog
from edgesparse_runtime.stream.counts import Counts
from edgesparse_runtime.stream.network.opcua import CONNECT_SECONDS, PASSWORD_VARIABLE, Note, ServerAddress
from edgesparse_runtime.stream.sources import Line

_FIRST_WAIT, _LONGEST_WAIT = 1.0, 10.0
_SHOWN = 8


class ServerReader:
    """What runs in the thread: one connection after the other."""

    def __init__(
        self,
        asyncua: Any,
        address: ServerAddress,
        backlog: Backlog[Line],
        counts: Counts,
        note: Note,
        channels: tuple[str, ...],
        seconds: float,
    ) -> None:
        self._asyncua, self._address = asyncua, address
        self._backlog, self._counts, self._note = backlog, counts, note
        self._channels, self._seconds = channels, seconds
        self._has_answer = threading.Event()
        self._problem: EdgeSparseError | None = None
        self._was_connected = self._is_connected = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None

    def wait(self) -> None:
        """Until the first connection stands.

        Raises:
            InputError, EdgeSparseError: what keeps it from that.
        """
        self._has_answer.wait()
        if self._problem is not None:
            raise self._problem

    def stop(self) -> None:
        loop, task = self._loop, self._task
        if loop is not None and task is not None and not loop.is_closed():
            loop.call_soon_threadsafe(task.cancel)

    def work(self) -> None:
        try:
            asyncio.run(self._run())
        except asyncio.CancelledError:
            pass
        except EdgeSparseError as error:
            self._problem = error
            self._backlog.close(error)
        except BaseException as error:
            self._problem = EdgeSparseError(f"{self._address.url}: {_said(error)}.")
            self._backlog.close(error)
        self._has_answer.set()

    async def _run(self) -> None:
        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        pause = _FIRST_WAIT
        while True:
            try:
                await self._read()
            except (EdgeSparseError, OSError, TimeoutError, self._asyncua.ua.UaError) as error:
                if not self._was_connected:
                    raise self._refusal(error) from None
                if self._is_connected:
                    self._is_connected = False
                    pause = _FIRST_WAIT
                    self._note(f"lost the connection to the OPC UA server ({_said(error)}); reconnecting")
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_WAIT)

    def _refusal(self, error: Exception) -> EdgeSparseError:
        if isinstance(error, EdgeSparseError):
            return error
        url = self._address.url
        return EdgeSparseError(f"{url}: cannot connect to the OPC UA server; {_said(error)}. Is it running?")

    async def _read(self) -> None:
        """Connect, and read until the connection is lost."""
        client = await self._client()
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await client.connect()
                machines = [await self._machine(client, text) for text in self._address.nodes]
            names = [name for name, _ in machines]
            machines = [
                (name if names.count(name) == 1 else text, variables)
                for (name, variables), text in zip(machines, self._address.nodes, strict=True)
            ]
            self._counts.reconnects += self._was_connected
            self._was_connected = self._is_connected = True
            self._has_answer.set()
            await self._poll(client, machines)
        finally:
            # A server that has gone does not say goodbye.
            with contextlib.suppress(Exception, asyncio.CancelledError):
                async with asyncio.timeout(1.0):
                    await client.disconnect()

    async def _client(self) -> Any:
        client = self._asyncua.Client(self._address.url, timeout=CONNECT_SECONDS / 2)
        if self._address.user is not None:
            client.set_user(self._address.user)
            client.set_password(os.environ.get(PASSWORD_VARIABLE, ""))
        if self._address.security:
            try:
                await client.set_security_string(self._address.security)
            except (OSError, ValueError, self._asyncua.ua.UaError) as error:
                raise InputError(
                    "`security` must be POLICY,MODE,CERTIFICATE,KEY, as Basic256Sha256,SignAndEncrypt,"
                    f"own.der,own.pem; {_said(error)}."
                ) from None
        return client

    async def _machine(self, client: Any, text: str) -> tuple[str, list[Any]]:
        """A node's name, and its variables in the order of the channels.

        Raises:
            InputError: no such node, or it lacks a channel.
        """
        ua = self._asyncua.ua
        try:
            node = client.get_node(text)
            name = str((await node.read_browse_name()).Name)
            children = await node.get_children(nodeclassmask=ua.NodeClass.Variable)
        except (ua.UaStringParsingError, ua.uaerrors.BadNodeIdUnknown, ua.uaerrors.BadNodeIdInvalid):
            raise InputError(f"{self._address.url}: no such node: {text}.") from None
        found = {str((await child.read_browse_name()).Name): child for child in children}
        missing = [channel for channel in self._channels if channel not in found]
        if missing:
            raise InputError(
                f"The node {text} must have the variable(s) {', '.join(self._channels)}; "
                f"{', '.join(missing)} is missing from {', '.join(list(found)[:_SHOWN]) or 'none'}."
            )
        return name, [found[channel] for channel in self._channels]

    async def _poll(self, client: Any, machines: list[tuple[str, list[Any]]]) -> None:
        """One read of all variables per interval; an interval that a slow server misses is left out."""
        variables = [variable for _, own in machines for variable in own]
        began, tick = time.perf_counter(), 0
        epoch = time.time() - began
        while not self._backlog.is_closed:
            async with asyncio.timeout(CONNECT_SECONDS):
                values = iter(await client.read_attributes(variables))
            arrived = time.perf_counter()
            stamp = _iso(epoch + began + tick * self._seconds)
            lines = []
            for machine, _ in machines:
                record = {name: _number(next(values)) for name in self._channels}
                lines.append(Line(json.dumps({"time": stamp, **record}), arrived, machine))
            self._backlog.offer(lines)
            tick = max(tick + 1, int((time.perf_counter() - began) / self._seconds))
            await asyncio.sleep(max(0.0, began + tick * self._seconds - time.perf_counter()))


def _number(value: Any) -> float | None:
    """None where the server says that the value is bad, or it is no number or truth value."""
    found = None if value.Value is None or value.StatusCode.is_bad() else value.Value.Value
    return float(found) if isinstance(found, (bool, int, float)) else None


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds")


def _said(error: BaseException) -> str:
    return str(error).strip().rstrip(".").splitlines()[0] if str(error).strip() else type(error).__name__
