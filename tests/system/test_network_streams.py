"""`edgesparse run --follow` from an OPC UA server and from Sparkplug B messages, all on loopback."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import re
import signal
import threading
import time
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgesparse_runtime.bundle.read import Bundle
from edgesparse_runtime.errors import EdgeSparseError, InputError
from edgesparse_runtime.session import Session
from edgesparse_runtime.stream import Counts
from edgesparse_runtime.stream.live import Reader
from edgesparse_runtime.stream.network.opcua import PASSWORD_VARIABLE, ServerAddress
from edgesparse_runtime.stream.network.sparkplug_payload import DOUBLE, Metric, Payload, encode
from edgesparse_runtime.stream.network.wanted import Wanted
from tests.support.processes import check_one_line, edgesparse
from tests.support.tolerances import ENGINES
from tests.system.test_streaming import VALUES, finish, free_port, read_until, start, start_broker

WANTED = Wanted(("current", "voltage"), 0.02)
# Who may read the server below.
USER, PASSWORD = "line", "a word"


class Plant:
    """An OPC UA server in a thread: ns=2;s=Press has current, which counts up, voltage, down, and a text."""

    def __init__(self) -> None:
        self.port = free_port()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._counting: asyncio.Task[None] | None = None
        self._do(self._make())

    def start(self) -> None:
        self._do(self._server.start())

    def stop(self) -> None:
        """All connections are lost."""
        self._do(self._server.stop())

    def close(self) -> None:
        self._do(self._end_tasks())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(30)
        self._loop.close()

    def _do(self, work: Coroutine[object, object, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    async def _end_tasks(self) -> None:
        """The counting, and what lost connections left; a task that is dropped complains at exit."""
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)

    async def _make(self) -> None:
        import asyncua
        from asyncua.crypto.permission_rules import User, UserRole
        from asyncua.ua import NodeId

        class Users:
            def get_user(
                self, _server: object, username: str = "", password: str = "", certificate: object = None
            ) -> User | None:
                return User(role=UserRole.User) if (username, password) == (USER, PASSWORD) else None

        self._server = asyncua.Server(user_manager=Users())
        await self._server.init()
        self._server.set_endpoint(f"opc.tcp://127.0.0.1:{self.port}/")
        space = await self._server.register_namespace("plant")
        press = await self._server.nodes.objects.add_object(NodeId("Press", space), "Press")
        variables = [await press.add_variable(NodeId(name, space), name, 0.0) for name in WANTED.channels]
        await press.add_variable(NodeId("state", space), "state", "runs")
        self._counting = asyncio.create_task(self._count(variables))

    async def _count(self, variables: list[Any]) -> None:
        count = 0.0
        while True:
            count += 1.0
            for variable, value in zip(variables, (count, -count), strict=True):
                await variable.write_value(value)
            await asyncio.sleep(0.005)


@pytest.fixture(scope="module")
def plant() -> Iterator[Plant]:
    pytest.importorskip("asyncua", reason="asyncua is not installed (extra `opcua`)")
    logging.getLogger("asyncua").setLevel(logging.CRITICAL + 1)
    found = Plant()
    found.start()
    yield found
    found.stop()
    found.close()


@pytest.fixture(autouse=True)
def password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PASSWORD_VARIABLE, PASSWORD)


def take(reader: Reader, least: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    end = time.monotonic() + 30
    while len(found) < least:
        assert time.monotonic() < end
        found += [json.loads(line.text) for line in reader.backlog.take(0.2) or []]
    return found


def read(plant: Plant, query: str, wanted: Wanted = WANTED, user: str = f"{USER}@") -> Reader:
    source = f"opc.tcp://{user}127.0.0.1:{plant.port}/?node=ns=2;s={query}"
    return Reader(source, Counts(), note=lambda _: None, wanted=wanted)


def test_the_variables_of_a_node_are_read_together_and_evenly(plant: Plant) -> None:
    reader = read(plant, "Press")
    samples = take(reader, 5)
    reader.stop()
    times = [np.datetime64(str(sample["time"]).removesuffix("+00:00")) for sample in samples]
    steps = np.diff(times) / np.timedelta64(20, "ms")
    np.testing.assert_allclose(steps, np.round(steps), atol=1e-3)
    values = [(sample["current"], sample["voltage"]) for sample in samples]
    assert all(b in (-a, 1 - a) for a, b in values)
    assert all(later > now for (now, _), (later, _) in itertools.pairwise(values))


def test_a_text_is_no_number(plant: Plant) -> None:
    reader = read(plant, "Press&interval=50", Wanted(("state", "current")))
    assert take(reader, 1)[0]["state"] is None
    reader.stop()


@pytest.mark.parametrize(
    ("query", "wanted", "words"),
    [
        ("Saw", WANTED, "no such node: ns=2;s=Saw."),
        ("Press&node=Saw", WANTED, "no such node: Saw."),
        ("Press&security=None", WANTED, "`security` must be POLICY,MODE,CERTIFICATE,KEY"),
        ("Press", Wanted(("current", "speed"), 0.02), "speed is missing from current, voltage, state"),
        ("Press", Wanted(("current",)), "must have an interval"),
    ],
)
def test_what_a_server_does_not_have_is_one_sentence(
    plant: Plant, query: str, wanted: Wanted, words: str
) -> None:
    with pytest.raises(InputError, match=re.escape(words)):
        read(plant, query, wanted)


def test_a_server_lets_only_its_users_in(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EdgeSparseError, match="cannot connect to the OPC UA server"):
        read(plant, "Press", user="")
    monkeypatch.setenv(PASSWORD_VARIABLE, "another")
    with pytest.raises(EdgeSparseError, match="cannot connect to the OPC UA server"):
        read(plant, "Press")


def test_an_opcua_stream_survives_its_server_and_ends_with_ctrl_c(
    plant: Plant, shared_bundle: Bundle
) -> None:
    source = f"opc.tcp://{USER}@127.0.0.1:{plant.port}/?node=ns=2;s=Press&interval=10"
    process = start(shared_bundle, source, "--window", 100, "--stride", 20, "--period", 0.01)
    (score,) = read_until(process, 1)
    scores: Any = score["scores"]
    assert score["machine"] == "Press" and set(scores) == set(shared_bundle.classes)
    plant.stop()
    assert process.stderr is not None
    while "lost the connection to the OPC UA server" not in (line := process.stderr.readline()):
        assert line
    plant.start()
    while read_until(process, 1)[0]["segment"] == score["segment"]:
        pass
    process.send_signal(signal.SIGINT)
    *_, summary = finish(process)[0]
    assert summary["reconnects"] == 1 and summary["malformed"] == 0


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("opc.tcp://127.0.0.1:4840/", "must be given as opc.tcp://HOST[:PORT]?node=NODEID"),
        ("opc.tcp://a:b@host/?node=i=1", f"must come from {PASSWORD_VARIABLE}"),
        ("opc.tcp://host:x/?node=i=1", "must name a port from 1 to 65535."),
        ("opc.tcp://host/?node=i=1&interval=0", "`interval` must be 1 to 3600000 milliseconds; got 0."),
        ("opc.tcp://host/?node=i=1&interval=soon", "`interval` must be 1 to 3600000 milliseconds; got soon."),
    ],
)
def test_addresses_that_are_none(source: str, words: str) -> None:
    with pytest.raises(InputError) as caught:
        ServerAddress.parse(source)
    assert words in str(caught.value)


def test_a_server_that_is_not_there_is_one_clear_line(shared_bundle: Bundle) -> None:
    pytest.importorskip("asyncua", reason="asyncua is not installed (extra `opcua`)")
    source = f"opc.tcp://127.0.0.1:{free_port()}/?node=i=85&interval=20"
    words = "cannot connect to the OPC UA server"
    check_one_line(edgesparse("run", shared_bundle.path, source, "--follow"), 1, words)
    done = edgesparse("run", shared_bundle.path, source)
    check_one_line(done, 2, "Standard input, brokers and OPC UA servers are streams. Add --follow.")


def test_sparkplug_messages_give_the_scores_of_their_values(shared_bundle: Bundle, tmp_path: Path) -> None:
    publish = pytest.importorskip("paho.mqtt.publish", reason="paho-mqtt is not installed (extra `mqtt`)")
    port = free_port()
    broker = start_broker(tmp_path, port)

    def message(k: int, kind: str = "DDATA") -> dict[str, object]:
        found = []
        for i, name in enumerate(WANTED.channels):
            value = float(VALUES[i, k])
            # What has not changed is not sent again.
            if kind == "DBIRTH" or value != VALUES[i, k - 1]:
                found.append(Metric(name if kind == "DBIRTH" else None, value, alias=i, datatype=DOUBLE))
        payload = encode(Payload(1_700_000_000_000 + 20 * k, found, k % 256))
        return {"topic": f"spBv1.0/plant/{kind}/gateway/press", "payload": payload, "qos": 1}

    try:
        process = start(shared_bundle, f"mqtt://127.0.0.1:{port}/spBv1.0/plant/#?qos=1", "--stride", 100)
        assert process.stderr is not None
        process.stderr.readline()
        messages = [message(0, "DBIRTH"), *map(message, range(1, 700))]
        publish.multiple(messages, hostname="127.0.0.1", port=port)
        scores = read_until(process, 2)
        process.send_signal(signal.SIGTERM)
        (summary,), _ = finish(process)
    finally:
        broker.terminate()
        broker.wait(10)
    assert {score["machine"] for score in scores} == {"plant/gateway/press"}
    assert [score["start"] for score in scores] == [
        "2023-11-14T22:13:20.000000Z",
        "2023-11-14T22:13:22.000000Z",
    ]
    windows = np.stack([VALUES[:, i : i + 600] for i in (0, 100)])
    expected = Session(shared_bundle, precision="float32").predict(windows)
    found = np.array([list(score["scores"].values()) for score in scores])  # type: ignore[attr-defined]
    np.testing.assert_allclose(found, expected, rtol=ENGINES.relative, atol=ENGINES.absolute)
    assert summary["samples"] == 700 and summary["malformed"] == 0
