"""Sparkplug B messages to lines: names for aliases, and values that hold until the next message.

A device sends all its metrics in a birth certificate, and later only those that changed, often under a number
(alias) in place of the name. Topic: spBv1.0/GROUP/TYPE/NODE[/DEVICE].
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from edgesparse_runtime.errors import InputError
from edgesparse_runtime.stream.network.sparkplug_payload import BOOLEAN, Metric, Payload, decode, encode
from edgesparse_runtime.stream.places import Places

NAMESPACE = "spBv1.0/"
MOST_NODES = 1000
MOST_DEVICES = 1000
# Seconds between two requests for a node's birth certificate.
REQUEST_EVERY = 60.0
_BIRTHS, _DATA, _DEATHS = ("NBIRTH", "DBIRTH"), ("NDATA", "DDATA"), ("NDEATH", "DDEATH")
_SHOWN = 8


@dataclass
class _Device:
    """Types and last values of the metrics that are channels, by name."""

    types: dict[str, int | None] = field(default_factory=dict)
    values: dict[str, float | None] = field(default_factory=dict)
    is_born: bool = False


@dataclass
class _Node:
    seq: int | None = None
    # Unique in a node, over all its devices.
    aliases: dict[int, str] = field(default_factory=dict)
    devices: dict[str, _Device] = field(default_factory=dict)
    requested: float = -REQUEST_EVERY
    is_noted: bool = False


class SparkplugNodes:
    """What the edge nodes of a broker have said so far.

    Rules:
    1. Metrics that are no channel of the model, or no number or truth value, are passed over.
    2. A sample has every channel of its device: a value holds until another one comes.
    3. A message is one sample, at the latest time of its metrics. One that has a metric more than once, as a
       device sends what it has stored, is one sample per time.
    4. After a death certificate, or a number that is missing in `seq` (a message was lost), no value holds.

    Args:
        channels: of the model.
        note: told what a person should know.
        is_whole: every message of a node arrives, so that a lost one can be told.

    Attributes:
        births_wanted: nodes whose birth certificate has not been seen and is needed.
    """

    def __init__(
        self, channels: Collection[str], note: Callable[[str], None], *, is_whole: bool = True
    ) -> None:
        self._channels, self.note, self._is_whole = frozenset(channels), note, is_whole
        self._nodes: dict[str, _Node] = {}
        self._places: Places[str] = Places(MOST_NODES)
        self.births_wanted: set[str] = set()

    def read(self, topic: str, message: bytes, now: float) -> tuple[str, list[str]]:
        """The machine that a message is about, and its samples as lines; none where it has no channel.

        Raises:
            InputError: it cannot be read.
        """
        parts = topic.split("/")
        kind = parts[2] if len(parts) in (4, 5) else ""
        if kind not in (*_BIRTHS, *_DATA, *_DEATHS):
            # Commands, and the states of hosts.
            return topic, []
        name, device = f"{parts[1]}/{parts[3]}", "/".join(parts[4:])
        machine = f"{name}/{device}" if device else name
        payload = decode(message)
        node = self._node(name, now)
        self._follow(node, name, kind, payload)
        if kind in _DEATHS:
            self._forget(node, device)
            return machine, []
        if kind == "NBIRTH":
            node.aliases.clear()
            node.devices.clear()
        if device not in node.devices and len(node.devices) >= MOST_DEVICES:
            raise InputError(f"A Sparkplug node must have at most {MOST_DEVICES:,} devices.")
        found = node.devices.setdefault(device, _Device())
        if kind in _BIRTHS:
            self.births_wanted.discard(name)
            self._begin(machine, node, found, payload)
        samples = self._samples(name, node, found, payload)
        return machine, [_line(time, values) for time, values in samples]

    def request_due(self, name: str, now: float) -> bool:
        """Whether a birth certificate may be requested again; notes that it is."""
        node = self._nodes.get(name)
        if node is None or now - node.requested < REQUEST_EVERY:
            return False
        node.requested = now
        return True

    def _node(self, name: str, now: float) -> _Node:
        if name not in self._nodes:
            if self._places.is_full:
                silent = self._places.find_silent(now)
                if silent is None:
                    raise InputError(f"A broker must have at most {MOST_NODES:,} Sparkplug nodes.")
                self._places.forget(silent)
                del self._nodes[silent]
            self._nodes[name] = _Node()
        self._places.note(name, now)
        return self._nodes[name]

    def _follow(self, node: _Node, name: str, kind: str, payload: Payload) -> None:
        """Count the messages of a node."""
        before, node.seq = node.seq, payload.seq
        if kind in ("NBIRTH", "NDEATH") or before is None or payload.seq is None or not self._is_whole:
            return
        if payload.seq != (before + 1) % 256:
            lost = (before + 1) % 256
            self.note(f"{name}: message {lost} is missing; so are its values, until they are sent again")
            for device in node.devices.values():
                device.values = dict.fromkeys(device.values)
            self.births_wanted.add(name)

    def _forget(self, node: _Node, device: str) -> None:
        if device:
            node.devices.pop(device, None)
        else:
            node.aliases.clear()
            node.devices.clear()
            node.seq = None

    def _begin(self, machine: str, node: _Node, device: _Device, payload: Payload) -> None:
        """Take names, aliases and types from a birth certificate."""
        named = [metric for metric in payload.metrics if metric.name is not None]
        device.types = {m.name: m.datatype for m in named if m.name in self._channels}
        device.values = dict.fromkeys(device.types)
        device.is_born = True
        node.aliases |= {m.alias: m.name for m in named if m.alias is not None and m.name in device.types}
        missing = sorted(self._channels - set(device.types))
        if device.types and missing:
            others = [str(m.name)[:40] for m in named if m.name not in device.types][:_SHOWN]
            self.note(
                f"{machine}: its birth certificate lacks {', '.join(missing[:_SHOWN])}, scored as missing"
                + (f"; it has {', '.join(others)}" if others else "")
            )

    def _samples(
        self, name: str, node: _Node, device: _Device, payload: Payload
    ) -> Iterable[tuple[int, dict[str, float | None]]]:
        """Times in milliseconds, and all values at each."""
        found: list[tuple[int, str, float | None]] = []
        for metric in payload.metrics:
            channel = self._channel(name, node, device, metric)
            time = payload.timestamp if metric.timestamp is None else metric.timestamp
            if channel not in self._channels:
                continue
            if time is None:
                raise InputError("A Sparkplug payload must have a timestamp, or each of its metrics.")
            value = metric.signed(metric.datatype or device.types.get(channel))
            found.append((time, channel, None if isinstance(value, str) or value is None else float(value)))
        if len({channel for _, channel, _ in found}) == len(found):
            latest = max((time for time, *_ in found), default=0)
            found = [(latest, channel, value) for _, channel, value in found]
        by_time: dict[int, dict[str, float | None]] = {}
        for time, channel, value in sorted(found, key=lambda entry: entry[0]):
            device.values[channel] = value
            by_time[time] = dict(device.values)
        return by_time.items()

    def _channel(self, name: str, node: _Node, device: _Device, metric: Metric) -> str:
        """The name of a metric, its own or its alias's; "" = not known."""
        if metric.name is not None:
            return metric.name
        if metric.alias in node.aliases:
            return node.aliases[metric.alias]
        if not device.is_born:
            self.births_wanted.add(name)
            if not node.is_noted:
                node.is_noted = True
                self.note(
                    f"{name}: sends numbers in place of names, which its birth certificate explains; nothing "
                    "is read until it comes. `?rebirth=1` in the address requests it"
                )
        return ""


def rebirth_request(name: str, milliseconds: int) -> tuple[str, bytes]:
    """Topic and payload of the command that makes a node send its birth certificates again."""
    group, _, node = name.partition("/")
    metric = Metric("Node Control/Rebirth", True, datatype=BOOLEAN, timestamp=milliseconds)
    return f"{NAMESPACE}{group}/NCMD/{node}", encode(Payload(milliseconds, [metric]))


def is_whole(topic: str) -> bool:
    """Whether a subscription has every message of the nodes that it has any of."""
    parts = topic.split("/")
    return parts[-1] == "#" and len(parts) <= 5 and (len(parts) <= 3 or parts[2] == "+")


def _line(milliseconds: int, values: dict[str, float | None]) -> str:
    try:
        time = datetime.fromtimestamp(milliseconds // 1000, UTC)
    except (OverflowError, OSError, ValueError):
        raise InputError(f"A Sparkplug time must be milliseconds since 1970; got {milliseconds}.") from None
    text = f"{time:%Y-%m-%dT%H:%M:%S}.{milliseconds % 1000:03d}Z"
    return json.dumps({"time": text, **values})
