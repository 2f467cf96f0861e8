"""Sparkplug B: our reader against protobuf's own, and what the messages of a node add up to."""

from __future__ import annotations

import json
import math
from types import SimpleNamespace
from typing import Any

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from hypothesis import given, settings
from hypothesis import strategies as st

from edgesparse_runtime.errors import InputError
from edgesparse_runtime.stream import Counts
from edgesparse_runtime.stream.backlog import Backlog
from edgesparse_runtime.stream.network.broker import BrokerAddress, _Subscriber
from edgesparse_runtime.stream.network.sparkplug import SparkplugNodes, is_whole, rebirth_request
from edgesparse_runtime.stream.network.sparkplug_payload import (
    BOOLEAN,
    DOUBLE,
    FLOAT,
    INT8,
    INT16,
    INT32,
    INT64,
    MOST_METRICS,
    STRING,
    UINT8,
    UINT32,
    UINT64,
    Metric,
    Payload,
    decode,
    encode,
)
from edgesparse_runtime.stream.network.wanted import Wanted
from edgesparse_runtime.stream.sources import Line

# The messages of the specification, as far as we read them: name, number, type; then the choice of values.
METRIC = [
    *(("name", 1, "STRING"), ("alias", 2, "UINT64"), ("timestamp", 3, "UINT64"), ("datatype", 4, "UINT32")),
    *(("is_historical", 5, "BOOL"), ("is_transient", 6, "BOOL"), ("is_null", 7, "BOOL")),
]
VALUES = [
    *(("int_value", 10, "UINT32"), ("long_value", 11, "UINT64"), ("float_value", 12, "FLOAT")),
    *(("double_value", 13, "DOUBLE"), ("boolean_value", 14, "BOOL"), ("string_value", 15, "STRING")),
    ("bytes_value", 16, "BYTES"),
]
TYPES = [INT8, INT16, INT32, INT64, UINT8, UINT32, UINT64, FLOAT, DOUBLE, BOOLEAN, STRING]
BITS = {INT8: 8, INT16: 16, INT32: 32, INT64: 64, UINT8: 8, UINT32: 32, UINT64: 64}


def generated_class() -> Any:
    """protobuf's own reader and writer of a payload."""
    file = descriptor_pb2.FileDescriptorProto(name="sparkplug.proto", package="sparkplug", syntax="proto2")
    kinds = descriptor_pb2.FieldDescriptorProto
    payload, metric = file.message_type.add(name="Payload"), file.message_type.add(name="Metric")
    metric.oneof_decl.add(name="value")
    for name, number, kind in METRIC:
        metric.field.add(name=name, number=number, type=kinds.Type.Value(f"TYPE_{kind}"), label=1)
    for name, number, kind in VALUES:
        kind = kinds.Type.Value(f"TYPE_{kind}")
        metric.field.add(name=name, number=number, type=kind, label=1, oneof_index=0)
    payload.field.add(name="timestamp", number=1, type=kinds.TYPE_UINT64, label=1)
    payload.field.add(
        name="metrics", number=2, type=kinds.TYPE_MESSAGE, label=3, type_name=".sparkplug.Metric"
    )
    payload.field.add(name="seq", number=3, type=kinds.TYPE_UINT64, label=1)
    payload.field.add(name="uuid", number=4, type=kinds.TYPE_STRING, label=1)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("sparkplug.Payload"))


THEIRS = generated_class()
NUMBERS = st.integers(0, 2**64 - 1)


@st.composite
def metrics(draw: st.DrawFn) -> Metric:
    kind = draw(st.sampled_from(TYPES))
    values: Any = {FLOAT: st.floats(width=32), DOUBLE: st.floats(), BOOLEAN: st.booleans(), STRING: st.text()}
    if kind in BITS:
        signed = kind in (INT8, INT16, INT32, INT64)
        low, high = (
            (-(2 ** (BITS[kind] - 1)), 2 ** (BITS[kind] - 1) - 1) if signed else (0, 2 ** BITS[kind] - 1)
        )
        values[kind] = st.integers(low, high)
    optional = st.none() | NUMBERS
    return Metric(
        draw(st.none() | st.text(max_size=8)),
        draw(st.none() | values[kind]),
        draw(optional),
        draw(optional),
        kind,
        draw(st.booleans()),
    )


def same(found: Any, wanted: Any) -> bool:
    is_nan = (
        isinstance(found, float) and isinstance(wanted, float) and math.isnan(found) and math.isnan(wanted)
    )
    return bool(found == wanted or is_nan)


@settings(max_examples=60, deadline=None)
@given(st.lists(metrics(), max_size=4), st.none() | NUMBERS, st.none() | st.integers(0, 255))
def test_what_we_write_both_read(given_metrics: list[Metric], timestamp: int | None, seq: int | None) -> None:
    message = encode(Payload(timestamp, given_metrics, seq))
    ours, theirs = decode(message), THEIRS.FromString(message)
    assert (ours.timestamp, ours.seq) == (timestamp, seq)
    assert theirs.timestamp == (timestamp or 0) and theirs.seq == (seq or 0)
    assert len(ours.metrics) == len(theirs.metrics) == len(given_metrics)
    for wanted, found, other in zip(given_metrics, ours.metrics, theirs.metrics, strict=True):
        assert (found.name, found.alias, found.timestamp) == (wanted.name, wanted.alias, wanted.timestamp)
        assert (found.datatype, found.is_historical) == (wanted.datatype, wanted.is_historical)
        assert same(found.signed(found.datatype), wanted.value)
        assert other.is_null == (wanted.value is None)
        chosen = other.WhichOneof("value")
        assert (chosen is None) == (wanted.value is None)
        if chosen is not None:
            assert same(getattr(other, chosen), found.value)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes_are_read_as_protobuf_reads_them_or_refused(message: bytes) -> None:
    try:
        ours = decode(message)
    except InputError:
        return
    # Where a field has another type than ours, protobuf keeps it aside; we refuse it.
    theirs = THEIRS.FromString(message)
    assert len(ours.metrics) == len(theirs.metrics) and (ours.seq or 0) == theirs.seq


def test_the_last_of_two_values_counts_and_unknown_fields_do_not() -> None:
    metric = THEIRS(metrics=[{"name": "a", "bytes_value": b"x"}]).metrics[0].SerializeToString()
    first = THEIRS(metrics=[{"int_value": 1}]).metrics[0].SerializeToString()
    second = THEIRS(metrics=[{"double_value": 2.5}]).metrics[0].SerializeToString()
    for parts, wanted in (((metric,), None), ((first, second), 2.5), ((first, second, first), 1)):
        content = b"".join(parts)
        message = b"\x12" + bytes((len(content),)) + content
        (found,) = decode(message).metrics
        assert found.value == wanted
        assert decode(THEIRS(uuid="abc", seq=7).SerializeToString()).seq == 7
    with pytest.raises(InputError, match=r"must have at most 4,096 metrics"):
        decode(b"\x12\x00" * (MOST_METRICS + 1))


@pytest.mark.parametrize(
    ("kind", "sent"), [(INT8, 0xFF), (INT8, 0xFFFFFFFF), (INT16, 0xFFFF), (INT64, 2**64 - 1)]
)
def test_negative_integers_of_either_kind_of_sender(kind: int, sent: int) -> None:
    assert Metric("a", sent).signed(kind) == -1 and Metric("a", sent).signed(None) == sent


CHANNELS = ("current", "voltage")
BIRTH = Payload(
    1_000,
    [
        Metric("bdSeq", 3, datatype=UINT64),
        Metric("current", -2, alias=10, datatype=INT32),
        Metric("voltage", 1.5, alias=11, datatype=FLOAT),
        Metric("serial", "abc", alias=12, datatype=STRING),
    ],
    seq=0,
)


class Plant:
    """Messages in, samples out."""

    def __init__(self, **options: Any) -> None:
        self.notes: list[str] = []
        self.nodes = SparkplugNodes(CHANNELS, self.notes.append, **options)

    def send(
        self, kind: str, payload: Payload, device: str = "press", now: float = 0.0
    ) -> list[list[object]]:
        topic = f"spBv1.0/plant/{kind}/gateway" + (f"/{device}" if device else "")
        machine, lines = self.nodes.read(topic, encode(payload), now)
        assert machine == "plant/gateway" + (f"/{device}" if device else "")
        return [list(json.loads(line).values()) for line in lines]


def data(time: int, *found: tuple[int, float | None], seq: int | None = None) -> Payload:
    kinds = {10: INT32, 11: FLOAT}
    return Payload(
        time, [Metric(None, value, alias, None, kinds.get(alias, STRING)) for alias, value in found], seq
    )


def at(milliseconds: int) -> str:
    return f"1970-01-01T00:00:{milliseconds // 1000:02d}.{milliseconds % 1000:03d}Z"


def test_values_hold_and_aliases_stand_for_names() -> None:
    plant = Plant()
    assert plant.send("NBIRTH", Payload(900, [], 255), device="") == []
    assert plant.send("DBIRTH", BIRTH) == [[at(1000), -2, 1.5]]
    assert plant.send("DDATA", data(1020, (10, -3), seq=1)) == [[at(1020), -3, 1.5]]
    assert plant.send("DDATA", data(1040, (11, None), seq=2)) == [[at(1040), -3, None]]
    # Nothing of ours, and nothing at all.
    assert plant.send("DDATA", data(1060, (12, 0), seq=3)) == []
    assert plant.send("DDATA", data(1080, seq=4)) == []
    assert plant.send("DDATA", data(1100, (11, 2.5), seq=5)) == [[at(1100), -3, 2.5]]
    assert plant.notes == []


def test_what_a_device_stored_is_one_sample_per_time() -> None:
    plant = Plant()
    plant.send("DBIRTH", BIRTH)
    stored = [
        Metric("voltage", float(k), timestamp=1000 + 20 * k, datatype=FLOAT, is_historical=True)
        for k in (2, 1)
    ]
    found = plant.send("DDATA", Payload(2000, [*stored, Metric("current", 5, None, 1040, INT32)], 1))
    assert found == [[at(1020), -2, 1], [at(1040), 5, 2]]
    # Once each, a few milliseconds apart: one scan.
    scan = [Metric("voltage", 9.0, None, 2020, FLOAT), Metric("current", 8, None, 2023, INT32)]
    assert plant.send("DDATA", Payload(2030, scan, 2)) == [[at(2023), 8, 9]]


def test_no_value_holds_after_a_death_or_a_lost_message() -> None:
    plant = Plant()
    plant.send("DBIRTH", BIRTH)
    assert plant.send("DDATA", data(1020, (10, 4), seq=2)) == [[at(1020), 4, None]]
    assert plant.notes == [
        "plant/gateway: message 1 is missing; so are its values, until they are sent again"
    ]
    assert plant.nodes.births_wanted == {"plant/gateway"}
    plant.send("DBIRTH", Payload(1100, BIRTH.metrics, 3))
    assert not plant.nodes.births_wanted
    plant.send("DDEATH", Payload(1200, [], 4))
    assert plant.send("DDATA", Payload(1300, [Metric("current", 1, datatype=INT32)], 5)) == [[at(1300), 1]]
    plant.send("NDEATH", Payload(1400, [Metric("bdSeq", 3, datatype=UINT64)]), device="")
    assert plant.send("DDATA", Payload(1500, [Metric("voltage", 1.0, datatype=FLOAT)], 99)) == [[at(1500), 1]]
    # With only some messages of a node, nothing can be told from their numbers.
    partial = Plant(is_whole=False)
    partial.send("DBIRTH", BIRTH)
    assert partial.send("DDATA", data(1020, (10, 4), seq=9)) == [[at(1020), 4, 1.5]]


def test_numbers_without_a_birth_certificate_are_not_read_and_one_can_be_requested() -> None:
    plant = Plant()
    for seq in (7, 8):
        assert plant.send("DDATA", data(1000, (10, 4), seq=seq)) == []
    assert len(plant.notes) == 1 and "`?rebirth=1` in the address requests it" in plant.notes[0]
    assert plant.nodes.request_due("plant/gateway", 0.0) and not plant.nodes.request_due(
        "plant/gateway", 59.0
    )
    assert plant.nodes.request_due("plant/gateway", 60.0) and not plant.nodes.request_due("else", 60.0)
    topic, message = rebirth_request("plant/gateway", 1234)
    assert topic == "spBv1.0/plant/NCMD/gateway"
    (metric,) = THEIRS.FromString(message).metrics
    assert (metric.name, metric.boolean_value, metric.timestamp) == ("Node Control/Rebirth", True, 1234)


def test_a_birth_certificate_that_lacks_a_channel_is_noted() -> None:
    plant = Plant()
    found = plant.send(
        "DBIRTH",
        Payload(1000, [Metric("current", 1, datatype=INT32), Metric("volts", 2.0, datatype=FLOAT)], 0),
    )
    assert found == [[at(1000), 1]]
    assert plant.notes == [
        "plant/gateway/press: its birth certificate lacks voltage, scored as missing; it has volts"
    ]
    # One of another kind of device is none of our business.
    assert (
        plant.send("DBIRTH", Payload(1000, [Metric("volts", 2.0, datatype=FLOAT)], 1), device="other") == []
    )
    assert len(plant.notes) == 1


def test_a_message_that_cannot_be_read_is_counted_and_the_others_are_scored() -> None:
    counts, notes = Counts(), []
    backlog: Backlog[Line] = Backlog(100)
    address = BrokerAddress.parse("mqtt://host/spBv1.0/plant/#?rebirth=1")
    assert address.rebirth and is_whole(address.topic)
    subscriber = _Subscriber(address, backlog, counts, notes.append, Wanted(CHANNELS))
    sent: list[tuple[str, bytes]] = []
    client = SimpleNamespace(publish=lambda *words: sent.append(words))

    def receive(kind: str, message: bytes) -> None:
        topic = f"spBv1.0/plant/{kind}/gateway/press"
        subscriber.on_message(client, None, SimpleNamespace(topic=topic, payload=message))

    receive("DDATA", encode(data(900, (10, 4), seq=9)))
    assert sent == [rebirth_request("plant/gateway", 0)] or sent[0][0] == "spBv1.0/plant/NCMD/gateway"
    receive("DBIRTH", encode(BIRTH))
    for message in (b"\xff", b"{}", encode(Payload(2**63, [Metric("current", 1, datatype=INT32)], 1))):
        receive("DDATA", message)
    receive("NCMD", b"whatever")
    (line,) = backlog.take(0.0) or []
    assert line.topic == "plant/gateway/press" and json.loads(line.text)["current"] == -2
    assert counts.malformed == 3 and len(sent) == 1
    assert len([note for note in notes if "a message was skipped" in note]) == 1


@pytest.mark.parametrize(
    ("topic", "whole"),
    [
        ("spBv1.0/#", True),
        ("spBv1.0/g/#", True),
        ("spBv1.0/g/+/n/#", True),
        ("spBv1.0/g/DDATA/n/#", False),
        ("spBv1.0/g/+/n/d", False),
    ],
)
def test_which_subscriptions_have_every_message(topic: str, whole: bool) -> None:
    assert is_whole(topic) == whole
