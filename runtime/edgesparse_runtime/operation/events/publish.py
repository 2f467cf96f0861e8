"""`Publisher`: events and alarms to an MQTT broker, with paho-mqtt (extra `mqtt`)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from edgesparse_runtime.errors import EdgeSparseError, InputError, MissingExtraError
from edgesparse_runtime.stream.network.broker import PASSWORD_VARIABLE, BrokerAddress

# Messages that wait while the broker is away; further ones are counted and dropped.
_MOST_WAITING = 10_000
_FLUSH_SECONDS = 5.0
# paho's MQTT_ERR_QUEUE_SIZE.
_QUEUE_IS_FULL = 15


class Publisher:
    """Publishes lines to one topic; the client reconnects by itself, and what was not sent waits in memory.

    Args:
        url: mqtt://[user@]host[:port]/topic[?qos=1], without wildcards.

    Attributes:
        dropped: lines that found too many waiting.

    Raises:
        InputError: the address cannot be read.
        MissingExtraError: paho-mqtt is not installed.
        EdgeSparseError: the broker cannot be reached.
    """

    def __init__(self, url: str) -> None:
        address = BrokerAddress.parse(url)
        if "#" in address.topic or "+" in address.topic:
            raise InputError(f"`--publish` must name one topic, without wildcards; got {address.topic}.")
        try:
            from paho.mqtt import client as mqtt
            from paho.mqtt.enums import CallbackAPIVersion
        except ImportError:
            raise MissingExtraError("Publishing to an MQTT broker", "paho-mqtt", "mqtt") from None
        self.dropped = 0
        self._address = address
        self._client: Any = mqtt.Client(CallbackAPIVersion.VERSION2)
        self._client.max_queued_messages_set(_MOST_WAITING)
        if address.user is not None:
            self._client.username_pw_set(address.user, os.environ.get(PASSWORD_VARIABLE))
        if address.tls:
            self._client.tls_set()
        try:
            self._client.connect(address.host, address.port)
        except OSError as error:
            raise EdgeSparseError(
                f"{address.host}:{address.port}: cannot connect to the broker; {error}. Is it running?"
            ) from None
        self._client.loop_start()
        self._last: Any = None

    def send(self, lines: Sequence[str]) -> None:
        """Hand lines over; they are sent as soon as the broker is there."""
        for line in lines:
            sent = self._client.publish(self._address.topic, line, self._address.qos)
            if sent.rc == _QUEUE_IS_FULL:
                self.dropped += 1
            else:
                self._last = sent

    def close(self) -> None:
        """Wait a little for what has not been sent, and disconnect."""
        if self._last is not None and not self._last.is_published():
            try:
                self._last.wait_for_publish(_FLUSH_SECONDS)
            except (RuntimeError, ValueError):
                self.dropped += 1
        self._client.disconnect()
        self._client.loop_stop()
