"""Samples from an MQTT broker, with paho-mqtt (extra `mqtt`): lines, or Sparkplug B under spBv1.0/."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from edgesparse_runtime.errors import EdgeSparseError, InputError, MissingExtraError
from edgesparse_runtime.stream.backlog import Backlog
from edgesparse_runtime.stream.counts import Counts
from edgesparse_runtime.stream.network.sparkplug import (
    NAMESPACE,
    SparkplugNodes,
    is_whole,
    rebirth_request,
)
from edgesparse_runtime.stream.network.wanted import NOTHING, Wanted
from edgesparse_runtime.stream.notes import Notes
from edgesparse_runtime.stream.sources import Line

PASSWORD_VARIABLE = "EDGESPARSE_MQTT_PASSWORD"
_CONNECT_SECONDS = 10.0
# Bytes of a message; a longer one is counted and not read.
LONGEST_MESSAGE = 4 << 20


@dataclass(frozen=True)
class BrokerAddress:
    """mqtt://[user@]host[:port]/topic[?qos=1]; mqtts:// for TLS. A topic may hold the wildcards + and #.

    Attributes:
        rebirth: request the birth certificates of Sparkplug nodes that need one (`?rebirth=1`).
    """

    host: str
    port: int
    topic: str
    user: str | None
    qos: int
    tls: bool
    rebirth: bool = False

    @classmethod
    def parse(cls, url: str) -> BrokerAddress:
        """The parts of an address.

        Raises:
            InputError: it has no host or topic, or holds a password.
        """
        # A # in a topic is a wildcard, not a fragment.
        parts = urlsplit(url.replace("#", "%23"))
        try:
            port = parts.port
        except ValueError:
            raise InputError(f"{url} must name a port from 1 to 65535.") from None
        topic = unquote(parts.path[1:])
        if parts.scheme not in ("mqtt", "mqtts") or not parts.hostname or not topic:
            raise InputError(f"A broker must be given as mqtt://HOST[:PORT]/TOPIC; got {url}.")
        if parts.password is not None:
            raise InputError(f"A broker's password must come from {PASSWORD_VARIABLE}, not from the address.")
        query = parse_qs(parts.query)
        qos, rebirth = query.get("qos", ["0"])[-1], query.get("rebirth", ["0"])[-1]
        if qos not in ("0", "1", "2"):
            raise InputError(f"`qos` must be 0, 1 or 2; got {qos}.")
        if rebirth not in ("0", "1"):
            raise InputError(f"`rebirth` must be 0 or 1; got {rebirth}.")
        tls = parts.scheme == "mqtts"
        user = unquote(parts.username) if parts.username else None
        port = port or (8883 if tls else 1883)
        return cls(parts.hostname, port, topic, user, int(qos), tls, rebirth == "1")


def read_broker(
    address: BrokerAddress,
    backlog: Backlog[Line],
    counts: Counts,
    note: Callable[[str], None],
    wanted: Wanted = NOTHING,
) -> Callable[[], None]:
    """Subscribe, and pass on every message as lines, in a thread of paho's own.

    The client reconnects indefinitely. Messages that find the backlog full are counted and dropped: a client
    that waits loses its connection, and more.

    Returns:
        what ends the connection.

    Raises:
        MissingExtraError: paho-mqtt is not installed.
        EdgeSparseError: no connection within ten seconds, or the broker refuses it.
    """
    try:
        from paho.mqtt import client as mqtt
        from paho.mqtt.enums import CallbackAPIVersion
    except ImportError:
        raise MissingExtraError("Reading from an MQTT broker", "paho-mqtt", "mqtt") from None
    client = mqtt.Client(CallbackAPIVersion.VERSION2)
    if address.user is not None:
        client.username_pw_set(address.user, os.environ.get(PASSWORD_VARIABLE))
    if address.tls:
        client.tls_set()
    subscriber = _Subscriber(address, backlog, counts, note, wanted)
    client.on_connect = subscriber.on_connect
    client.on_disconnect = subscriber.on_disconnect
    client.on_message = subscriber.on_message
    broker = f"{address.host}:{address.port}"
    try:
        client.connect(address.host, address.port)
    except OSError as error:
        raise EdgeSparseError(f"{broker}: cannot connect to the broker; {error}. Is it running?") from None
    client.loop_start()
    problem = subscriber.wait(_CONNECT_SECONDS)
    if problem:
        client.loop_stop()
        raise EdgeSparseError(f"{broker}: the broker refused the connection; {problem}.")

    def stop() -> None:
        client.disconnect()
        client.loop_stop()

    return stop


class _Subscriber:
    """What paho calls, in its own thread."""

    def __init__(
        self,
        address: BrokerAddress,
        backlog: Backlog[Line],
        counts: Counts,
        note: Callable[[str], None],
        wanted: Wanted = NOTHING,
    ) -> None:
        self._address, self._backlog, self._counts, self._note = address, backlog, counts, note
        self._nodes = SparkplugNodes(wanted.channels, Notes(note), is_whole=is_whole(address.topic))
        self._has_answer = threading.Event()
        self._problem = "no answer"
        self._was_connected = False

    def wait(self, seconds: float) -> str:
        """What keeps the broker from letting us in; "" = nothing."""
        self._has_answer.wait(seconds)
        return self._problem

    def on_connect(self, client: Any, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        if reason.is_failure:
            self._problem = str(reason)
        else:
            self._problem = ""
            self._counts.reconnects += self._was_connected
            self._was_connected = True
            client.subscribe(self._address.topic, self._address.qos)
        self._has_answer.set()

    def on_disconnect(self, _client: Any, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        if reason.is_failure and not self._backlog.is_closed:
            self._note(f"lost the connection to the broker ({reason}); reconnecting")

    def on_message(self, client: Any, _data: Any, message: Any) -> None:
        now = time.perf_counter()
        if len(message.payload) > LONGEST_MESSAGE:
            self._count_malformed(message.topic)
            return
        if message.topic.startswith(NAMESPACE):
            self._read_sparkplug(client, message, now)
            return
        lines = message.payload.decode("utf-8", errors="replace").splitlines()
        self._backlog.offer([Line(line, now, message.topic) for line in lines])

    def _read_sparkplug(self, client: Any, message: Any, now: float) -> None:
        try:
            machine, lines = self._nodes.read(message.topic, message.payload, now)
        except InputError as error:
            if self._count_malformed(message.topic) == 1:
                self._nodes.note(f"{message.topic}: a message was skipped: {error}")
            return
        self._backlog.offer([Line(line, now, machine) for line in lines])
        if self._address.rebirth:
            for name in self._nodes.births_wanted:
                if self._nodes.request_due(name, now):
                    client.publish(*rebirth_request(name, int(time.time() * 1e3)))

    def _count_malformed(self, topic: str) -> int:
        self._counts.malformed += 1
        self._counts.of(topic).malformed += 1
        return self._counts.of(topic).malformed
