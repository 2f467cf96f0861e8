"""Samples from an OPC UA server, with asyncua (extra `opcua`): a node's variables, read together."""

from __future__ import annotations

import importlib
import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import parse_qs, unquote, urlsplit

from edgesparse_runtime.errors import InputError, MissingExtraError
from edgesparse_runtime.stream.backlog import Backlog
from edgesparse_runtime.stream.counts import Counts
from edgesparse_runtime.stream.network.wanted import Wanted
from edgesparse_runtime.stream.sources import Line

PASSWORD_VARIABLE = "EDGESPARSE_OPCUA_PASSWORD"
PORT = 4840
CONNECT_SECONDS = 10.0
_MOST_NODES = 100
_READER = "edgesparse_runtime.stream.network.opcua_reader"

Note = Callable[[str], None]


@dataclass(frozen=True)
class ServerAddress:
    """opc.tcp://[user@]host[:port][/path]?node=ns=2;s=Press[&node=...][&interval=20].

    Attributes:
        url: without user and query.
        nodes: each is a machine; its variables are the channels.
        interval: milliseconds between reads; None = the model's period.
        security: policy, mode, certificate and key, as asyncua takes them; "" = none.
    """

    url: str
    user: str | None
    nodes: tuple[str, ...]
    interval: float | None
    security: str

    @classmethod
    def parse(cls, text: str) -> ServerAddress:
        """The parts of an address.

        Raises:
            InputError: it has no host or node, an interval that is none, or holds a password.
        """
        parts = urlsplit(text)
        try:
            port = parts.port
        except ValueError:
            raise InputError(f"{text} must name a port from 1 to 65535.") from None
        query = parse_qs(parts.query)
        nodes = tuple(query.get("node", ()))
        if parts.scheme != "opc.tcp" or not parts.hostname or not 0 < len(nodes) <= _MOST_NODES:
            raise InputError(
                f"An OPC UA server must be given as opc.tcp://HOST[:PORT]?node=NODEID; got {text}."
            )
        if parts.password is not None:
            raise InputError(
                f"An OPC UA server's password must come from {PASSWORD_VARIABLE}, not from the address."
            )
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        url = f"opc.tcp://{host}:{port or PORT}{parts.path}"
        user = unquote(parts.username) if parts.username else None
        security = query.get("security", [""])[-1]
        return cls(url, user, nodes, _interval(query), security)


def _interval(query: Mapping[str, list[str]]) -> float | None:
    text = query.get("interval", [None])[-1]
    if text is None:
        return None
    try:
        found = float(text)
    except ValueError:
        found = 0.0
    if not 1 <= found <= 3.6e6:
        raise InputError(f"`interval` must be 1 to 3600000 milliseconds; got {text}.")
    return found


def read_server(
    address: ServerAddress, backlog: Backlog[Line], counts: Counts, note: Note, wanted: Wanted
) -> Callable[[], None]:
    """Read the channels of every node at even times, as lines, in a thread of its own.

    A lost connection is noted and tried again indefinitely.

    Returns:
        what ends the connection.

    Raises:
        MissingExtraError: asyncua is not installed.
        InputError: no such node, a channel that a node lacks, or no interval.
        EdgeSparseError: no connection within ten seconds, or the server refuses it.
    """
    try:
        import asyncua
    except ImportError:
        raise MissingExtraError("Reading from an OPC UA server", "asyncua", "opcua") from None
    # Its own words on every lost connection; what matters of them is in our notes.
    logging.getLogger("asyncua").setLevel(logging.CRITICAL + 1)
    seconds = wanted.period if address.interval is None else address.interval / 1e3
    if seconds is None:
        raise InputError(
            "An OPC UA address must have an interval, as the model states no period. Add &interval=20 "
            "(milliseconds)."
        )
    room = importlib.import_module(_READER)
    reader = room.ServerReader(asyncua, address, backlog, counts, note, wanted.channels, seconds)
    thread = threading.Thread(target=reader.work, name="edgesparse-opcua", daemon=True)
    thread.start()
    reader.wait()

    def stop() -> None:
        reader.stop()
        thread.join(CONNECT_SECONDS)

    return stop
