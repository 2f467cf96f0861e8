"""`edgesparse events fit`, and the events of `run --follow`, as a user runs them."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgesparse_runtime.bundle.read import Bundle, open_bundle
from edgesparse_runtime.operation.events.rule import FILE
from tests.support.processes import check_one_line, edgesparse
from tests.system.operation.test_monitor import cli
from tests.system.test_streaming import free_port, start_broker

CUT = ("--window", "100", "--stride", "25")
LABELED = ("--label-column", "state", "--group-column", "machine")
HEADER = "machine,time,current,voltage,state\n"
STRETCH = 1_500


def make_rows(machine: str, seed: int, stretches: int) -> list[str]:
    """One recording: fast and slow alternate."""
    rng = np.random.default_rng(seed)
    kinds = np.repeat(np.arange(stretches) % 2, STRETCH)
    phase = np.cumsum(np.where(kinds, 0.15, 0.4))
    values = np.sin(phase + np.array([[0.0], [1.0]])) + 0.2 * rng.standard_normal((2, len(phase)))
    return [
        f"{machine},{0.02 * k:.2f},{a:.5f},{b:.5f},{'slow' if kind else 'fast'}\n"
        for k, (a, b, kind) in enumerate(zip(*values.tolist(), kinds.tolist(), strict=True))
    ]


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("events") / "recordings.csv"
    rows = [row for i in range(3) for row in make_rows(f"m{i}", i, 4)]
    path.write_text(HEADER + "".join(rows), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def fitted(shared_bundle: Bundle, recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("fitted") / "machine.edgesparse"
    shutil.copytree(shared_bundle.path, path)
    options = ("--max-false-alarms", "6/h", "--quiet", "fast", *CUT, *LABELED)
    done = cli("events", "fit", path, recordings, *options, "--json")
    assert done.returncode == 0, done.stderr
    (rule,) = json.loads(done.stdout)["rules"]
    assert rule["name"] == "slow" and rule["leave"] <= rule["enter"]
    counts = json.loads(done.stdout)["fitted"]["classes"]["slow"]
    assert counts["held_out"]["episodes"] == 6 and counts["held_out"]["found"] == 1.0
    assert counts["single_windows"]["episodes"] == 6
    assert "3 times that time would show it" in done.stderr
    return path


def test_rules_lie_in_the_bundle_and_are_hashed(fitted: Path, tmp_path: Path) -> None:
    assert json.loads(open_bundle(fitted).read(FILE))["false_alarms"] == "6/h"
    changed = tmp_path / fitted.name
    shutil.copytree(fitted, changed)
    content = (changed / FILE).read_text(encoding="utf-8")
    (changed / FILE).write_text(content.replace('"enter": 0', '"enter": 1'), encoding="utf-8")
    assert cli("run", changed, "-", "--follow").returncode == 2


def test_a_stream_gives_event_lines(fitted: Path, tmp_path: Path) -> None:
    rows = [row.rpartition(",")[0] + "\n" for row in make_rows("m9", 9, 4)]
    stream = tmp_path / "stream.csv"
    stream.write_text(HEADER.replace(",state", "") + "".join(rows), encoding="utf-8")
    with stream.open(encoding="utf-8") as source:
        done = edgesparse("run", fitted, "-", "--follow", *CUT, stdin=source)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    found = [line for line in lines if line["event"] == "event"]
    assert [line["kind"] for line in found] == ["begin", "end", "begin"]
    assert {line["class"] for line in found} == {"slow"} and {line["machine"] for line in found} == {"m9"}
    # Slow begins at 30 s and at 90 s, and a window is 2 s.
    assert 30 <= found[0]["time"] <= 36 and 90 <= found[2]["time"] <= 96
    assert lines[-1]["events"] == {"slow": 2}


def test_what_cannot_be_fitted_is_told(shared_bundle: Bundle, recordings: Path, tmp_path: Path) -> None:
    path = shared_bundle.path
    check_one_line(cli("events", path, recordings), 2, "must be given fit, a bundle and its recordings")
    wrong = cli("events", "fit", path, recordings, "--quiet", "calm", *CUT)
    check_one_line(wrong, 2, "`--quiet` must be one of fast, slow; got calm")
    wrong = cli("events", "fit", path, recordings, "--max-false-alarms", "few")
    check_one_line(wrong, 2, "`--max-false-alarms` must be a count per time")
    wrong = cli("events", "fit", path, recordings, "-o", tmp_path / "new", *CUT, *LABELED)
    check_one_line(wrong, 2, "must end in .edgesparse")


def test_publishing_needs_a_broker(fitted: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty.csv"
    empty.write_text("", encoding="utf-8")
    wrong = cli("run", fitted, empty, "--follow", *CUT, "--publish", "mqtt://127.0.0.1/line/#")
    assert wrong.returncode == 2 and "without wildcards" in wrong.stderr


def test_events_reach_a_broker(fitted: Path, tmp_path: Path) -> None:
    from paho.mqtt import client as mqtt
    from paho.mqtt.enums import CallbackAPIVersion

    port = free_port()
    broker = start_broker(tmp_path, port)
    received: list[dict[str, object]] = []
    client = mqtt.Client(CallbackAPIVersion.VERSION2)
    client.on_message = lambda _client, _data, message: received.append(json.loads(message.payload))
    ready = threading.Event()
    client.on_subscribe = lambda *_: ready.set()
    try:
        client.connect("127.0.0.1", port)
        client.loop_start()
        client.subscribe("line/events", 1)
        assert ready.wait(10)
        stream = tmp_path / "stream.csv"
        rows = [row.rpartition(",")[0] + "\n" for row in make_rows("m9", 9, 2)]
        stream.write_text(HEADER.replace(",state", "") + "".join(rows), encoding="utf-8")
        to = f"mqtt://127.0.0.1:{port}/line/events?qos=1"
        with stream.open(encoding="utf-8") as source:
            done = edgesparse("run", fitted, "-", "--follow", *CUT, "--publish", to, stdin=source)
        assert done.returncode == 0, done.stderr
        wait_until(lambda: bool(received))
    finally:
        client.loop_stop()
        broker.kill()
        broker.wait(10)
    assert [(line["event"], line["kind"], line["class"]) for line in received] == [("event", "begin", "slow")]
    assert json.loads(done.stdout.splitlines()[-1])["unpublished"] == 0


def wait_until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)
