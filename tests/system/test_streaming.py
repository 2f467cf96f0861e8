"""`edgesparse run --follow` as a process: pipes, growing files, a broker, signals, a read-only machine."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edgesparse_runtime.bundle.read import Bundle
from edgesparse_runtime.session import Session
from tests.support.paths import ROOT, SOURCES, source_environment
from tests.support.processes import check_one_line
from tests.support.processes import start as start_process
from tests.support.synthetic import make_series
from tests.support.tolerances import ENGINES

COMMAND = [sys.executable, "-m", "edgesparse_runtime.cli", "run"]
ENVIRONMENT = source_environment(OMP_NUM_THREADS="1")
VALUES = np.concatenate(make_series(3, seed=5).series, axis=1)
UNIT = ROOT / "docs" / "files" / "edgesparse-stream.service"


def to_csv(values: np.ndarray, *, header: bool = True, start: int = 0) -> str:
    rows = (f"{0.02 * (start + k):.2f},{v[0]!r},{v[1]!r}" for k, v in enumerate(values.T.tolist()))
    return "\n".join([*(["time,current,voltage"] if header else []), *rows]) + "\n"


def start(bundle: Bundle, source: str, *options: object, **settings: object) -> subprocess.Popen[str]:
    arguments = [str(bundle.path), source, "--follow", "--precision", "float32", *map(str, options)]
    return start_process(*COMMAND, *arguments, **{"stdin": subprocess.PIPE, **settings})  # type: ignore[arg-type]


def finish(process: subprocess.Popen[str], text: str | None = None) -> tuple[list[dict[str, object]], str]:
    """JSON lines and stderr of a process that must end well."""
    out, err = process.communicate(text, timeout=60)
    assert process.returncode == 0, err
    return [json.loads(line) for line in out.splitlines()], err


def read_until(process: subprocess.Popen[str], scores: int) -> list[dict[str, object]]:
    """The first so many lines of a process that keeps running."""
    assert process.stdout is not None
    return [json.loads(process.stdout.readline()) for _ in range(scores)]


def check_scores(
    bundle: Bundle, lines: list[dict[str, object]], starts: list[int], window: int = 600
) -> None:
    expected = Session(bundle, precision="float32").predict(
        np.stack([VALUES[:, i : i + window] for i in starts])
    )
    actual = np.array([list(line["scores"].values()) for line in lines])  # type: ignore[attr-defined]
    # Scores are written with six decimals.
    np.testing.assert_allclose(actual, expected, rtol=ENGINES.relative, atol=ENGINES.absolute)
    assert [line["start"] for line in lines] == pytest.approx([0.02 * i for i in starts])


def test_a_pipe_is_scored_to_its_end(shared_bundle: Bundle) -> None:
    process = start(shared_bundle, "-", "--window", 600, "--stride", 200, "--deadline", 10_000)
    lines, err = finish(process, to_csv(VALUES))
    *scores, summary = lines
    assert {line["schema"] for line in lines} == {"edgesparse.stream/1"}
    check_scores(shared_bundle, scores, list(range(0, 1201, 200)))
    assert summary["event"] == "summary" and summary["samples"] == 1800 and summary["scores"] == 7
    assert summary["deadline_missed"] == 0 and summary["period_s"] == [0.02, 0.02]
    assert not any(line["deadline_missed"] for line in scores)
    assert "1,800 samples" in err and "7 scores" in err
    decisions = {line["decision"] for line in scores}
    assert decisions <= set(shared_bundle.classes)


def test_json_lines_in_and_csv_out(shared_bundle: Bundle, tmp_path: Path) -> None:
    text = "".join(
        json.dumps({"timestamp": 20 * k, "voltage": float(v[1]), "current": float(v[0])}) + "\n"
        for k, v in enumerate(VALUES[:, :700].T)
    )
    out = tmp_path / "scores.csv"
    options = ("--stride", 100, "--time-unit", "ms", "-o", out)
    for _ in range(2):
        assert finish(start(shared_bundle, "-", *options), text)[0] == []
    rows = list(csv.DictReader(io.StringIO(out.read_text())))
    # A second run appends, without a second header.
    assert [row["time"] for row in rows] == ["11980.0", "13980.0"] * 2
    assert float(rows[0]["score_fast"]) + float(rows[0]["score_slow"]) == pytest.approx(1, abs=1e-5)


def test_gaps_and_bad_lines_are_counted(shared_bundle: Bundle) -> None:
    rows = to_csv(VALUES[:, :1300]).splitlines(keepends=True)
    rows[300:305] = []
    rows[700] = "not a line\n"
    rows.insert(900, "0.00,1,2\n")
    process = start(shared_bundle, "-", "--stride", 300)
    (*scores, summary), err = finish(process, "".join(rows))
    missing = [score["missing"] for score in scores]
    assert missing == pytest.approx([5 / 600, 5 / 600, 1 / 600], abs=1e-4)
    assert summary["filled"] == 6 and summary["malformed"] == 1 and summary["late"] == 1
    assert err.count("a line was skipped") == 1 and "A line must have 3 cells; got 1." in err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_followed_file_with_a_summary(
    shared_bundle: Bundle, tmp_path: Path, number: signal.Signals
) -> None:
    path = tmp_path / "log.csv"
    path.write_text(to_csv(VALUES[:, :610]))
    process = start(shared_bundle, str(path), "--stride", 100)
    scores = read_until(process, 1)
    with path.open("a") as stream:
        stream.write(to_csv(VALUES[:, 610:900], header=False, start=610))
    scores += read_until(process, 3)
    process.send_signal(number)
    rest, err = finish(process)
    check_scores(shared_bundle, scores, [0, 100, 200, 300])
    assert [line["event"] for line in rest] == ["summary"] and rest[0]["samples"] == 900
    assert "Traceback" not in err


def test_a_reader_that_leaves_ends_the_stream(shared_bundle: Bundle) -> None:
    with start(shared_bundle, "-", "--stride", 1) as process:
        assert process.stdout is not None and process.stdin is not None and process.stderr is not None
        process.stdin.write(to_csv(VALUES[:, :605]))
        process.stdin.flush()
        process.stdout.readline()
        process.stdout.close()
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(to_csv(VALUES[:, 605:], header=False, start=605))
            process.stdin.close()
        assert process.wait(30) == 0
        err = process.stderr.read()
    assert "Traceback" not in err and "scores" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("none/later.csv",), "none/later.csv: no such file or directory."),
        ((".",), ".: is a directory."),
        (("-", "other.csv"), "`--follow` must have one source; got 2."),
        (("-", "--format", "table"), "`--format` of a stream must be json or csv; got table."),
        (("-", "--period", "0"), "`period` must be above 0 seconds; got 0."),
        (("-", "--lateness", "-1"), "`lateness` must be at least 0 seconds; got -1."),
        (("-", "--max-gap", "600"), "`max_gap` must be below the window's 600 steps"),
        (("-", "--backlog", "0"), "`backlog` must be at least 1 line; got 0."),
        (("-", "--time-unit", "min"), "`time_unit` must be s, ms, us, ns; got min."),
        (("mqtt://host",), "A broker must be given as mqtt://HOST[:PORT]/TOPIC; got mqtt://host."),
    ],
)
def test_bad_options_are_one_line(
    shared_bundle: Bundle, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    command = [*COMMAND, str(shared_bundle.path), *arguments, "--follow"]
    result = subprocess.run(
        command, input="", capture_output=True, text=True, env=ENVIRONMENT, check=False, cwd=tmp_path
    )
    check_one_line(result, 2, message)


def test_a_stream_of_other_channels_is_refused(shared_bundle: Bundle) -> None:
    process = start(shared_bundle, "-")
    _, err = process.communicate("time,current,speed\n0,1,2\n", timeout=60)
    assert process.returncode == 2
    assert err.splitlines()[-1].startswith("edgesparse: error: The stream must have the channel(s) current")


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[int]:
    """The port of a mosquitto on loopback; it can be killed and started again by the test."""
    pytest.importorskip("paho.mqtt.client", reason="paho-mqtt is not installed (extra `mqtt`)")
    port = free_port()
    process = start_broker(tmp_path, port)
    yield port
    process.terminate()
    process.wait(10)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start_broker(folder: Path, port: int) -> subprocess.Popen[bytes]:
    program = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
    if program is None:
        pytest.skip("mosquitto is not installed (apt-get install mosquitto)")
    config = folder / "mosquitto.conf"
    config.write_text(
        f"listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\nmax_queued_messages 0\n"
    )
    process = subprocess.Popen(
        [program, "-c", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    until = time.monotonic() + 20
    while time.monotonic() < until:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return process
        time.sleep(0.05)
    raise AssertionError("mosquitto does not answer")


def messages(topic: str, shift: int) -> list[dict[str, object]]:
    """700 samples from `shift` on, ten per message."""
    rows = VALUES[:, shift : shift + 700].T
    lines = [
        json.dumps({"time": 0.02 * k, "current": float(v[0]), "voltage": float(v[1])})
        for k, v in enumerate(rows)
    ]
    return [{"topic": topic, "payload": "\n".join(lines[k : k + 10]), "qos": 1} for k in range(0, 700, 10)]


def check_press_and_saw(bundle: Bundle, scores: list[dict[str, object]]) -> None:
    """Two windows of each, as `messages` from 0 and from 900 give them."""
    by_machine = {name: [s for s in scores if s["machine"] == name] for name in ("line/press", "line/saw")}
    check_scores(bundle, by_machine["line/press"], [0, 100])
    for score, shift in zip(by_machine["line/saw"], (900, 1000), strict=True):
        score["start"] = 0.02 * shift
    check_scores(bundle, by_machine["line/saw"], [900, 1000])


def test_a_broker_feeds_two_machines_by_topic(shared_bundle: Bundle, broker: int) -> None:
    from paho.mqtt import publish

    process = start(shared_bundle, f"mqtt://127.0.0.1:{broker}/line/+?qos=1", "--stride", 100)
    assert process.stderr is not None
    process.stderr.readline()  # subscribed
    pairs = zip(messages("line/press", 0), messages("line/saw", 900), strict=True)
    publish.multiple([m for pair in pairs for m in pair], hostname="127.0.0.1", port=broker)  # type: ignore[misc]
    scores = read_until(process, 4)
    process.send_signal(signal.SIGTERM)
    (summary,), _ = finish(process)
    check_press_and_saw(shared_bundle, scores)
    assert summary["samples"] == 1400 and summary["machines"] == 2 and summary["dropped"] == 0


def test_a_hostile_topic_of_a_broker_changes_no_other_score(shared_bundle: Bundle, broker: int) -> None:
    from paho.mqtt import publish

    process = start(shared_bundle, f"mqtt://127.0.0.1:{broker}/line/+?qos=1", "--stride", 100)
    assert process.stderr is not None
    process.stderr.readline()  # subscribed
    payloads: list[bytes] = [
        b"\x00\xff\xfe" * 100,
        b'{"time": "9999-12-31T23:59:59-14:00", "current": 1, "voltage": 1}',
        b'{"time": "0001-01-01T00:00:00+14:00", "current": 1, "voltage": 1}',
        b'{"time": 1' + b"0" * 5000 + b', "current": 1, "voltage": 1}',
        b'{"time": 1, "current": 1, "voltage": 1, "machine": "line/press"}',
        b'{"time": 1, "current": 1, "voltage": 1, "machine": "\\ud800"}',
        b'{"time": 1, "current": 1, "voltage": 1, "machine": "' + b"x" * 900_000 + b'"}',
        b"time,current,speed",
        b"current,voltage" + b",k" * 90_000,
        b"[" * 100_000,
    ]
    evil: list[dict[str, object]] = [{"topic": "line/evil", "payload": p, "qos": 1} for p in payloads]
    good = [
        m for pair in zip(messages("line/press", 0), messages("line/saw", 900), strict=True) for m in pair
    ]
    mixed = [m for k, one in enumerate(good) for m in (evil[k % len(evil)], one)]
    publish.multiple(mixed, hostname="127.0.0.1", port=broker)  # type: ignore[arg-type]
    scores: list[dict[str, object]] = []
    while sum(s["machine"] in ("line/press", "line/saw") for s in scores) < 4:
        scores += read_until(process, 1)
    process.send_signal(signal.SIGTERM)
    finish(process)
    check_press_and_saw(shared_bundle, scores)


def test_a_broker_that_comes_back_is_taken_up_again(shared_bundle: Bundle, tmp_path: Path) -> None:
    publish = pytest.importorskip("paho.mqtt.publish", reason="paho-mqtt is not installed (extra `mqtt`)")
    port = free_port()
    broker = start_broker(tmp_path, port)
    process = start(shared_bundle, f"mqtt://127.0.0.1:{port}/line?qos=1", "--stride", 1)
    assert process.stderr is not None
    process.stderr.readline()
    broker.kill()
    broker.wait(10)
    assert "lost the connection" in process.stderr.readline()
    broker = start_broker(tmp_path, port)
    try:
        payload = to_csv(VALUES[:, :600], header=False)
        until = time.monotonic() + 30
        # Messages sent before it has subscribed again are the broker's to lose.
        while time.monotonic() < until and process.poll() is None:
            publish.single("line", payload, qos=1, hostname="127.0.0.1", port=port)
            ready = select_readable(process, 1.0)
            if ready:
                break
        check_scores(shared_bundle, read_until(process, 1), [0])
        process.send_signal(signal.SIGINT)
        *_, summary = finish(process)[0]
        assert summary["reconnects"] == 1
    finally:
        broker.terminate()
        broker.wait(10)


def select_readable(process: subprocess.Popen[str], timeout: float) -> bool:
    import select

    return bool(select.select([process.stdout], [], [], timeout)[0])


def test_runs_on_a_read_only_machine_without_a_home(shared_bundle: Bundle) -> None:
    """The recipe of docs/guides/streaming.md: nothing is written anywhere but to stdout and stderr."""
    remount = "mount -o remount,ro,bind /"
    if shutil.which("unshare") is None:
        pytest.skip("unshare is not installed")
    probe = subprocess.run(
        ["unshare", "-rm", "sh", "-c", f"{remount} && ! touch {ROOT}/probe 2>/dev/null"],
        check=False,
        capture_output=True,
    )
    if probe.returncode:
        pytest.skip(f"this machine allows no read-only mount of its root: {probe.stderr.decode().strip()}")
    command = " ".join([*COMMAND, str(shared_bundle.path), "-", "--follow", "--stride", "600"])
    result = subprocess.run(
        ["unshare", "-rm", "sh", "-c", f"{remount} && exec {command}"],
        input=to_csv(VALUES),
        capture_output=True,
        text=True,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": SOURCES, "PYTHONDONTWRITEBYTECODE": "1"},
        check=False,
    )
    assert result.returncode == 0, result.stderr
    *scores, summary = map(json.loads, result.stdout.splitlines())
    assert len(scores) == 3 and summary["samples"] == 1800


def test_the_systemd_unit_is_valid(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    unit = tmp_path / UNIT.name
    # verify wants the program to exist; ours is installed elsewhere on a device.
    text, replaced = re.subn(
        r"(?m)^ExecStart=/opt/edgesparse/bin/edgesparse ", "ExecStart=/bin/true ", UNIT.read_text()
    )
    assert replaced == 1
    unit.write_text(text)
    result = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert UNIT.name not in result.stderr, result.stderr
    unit.write_text(text.replace("ProtectSystem=", "ProtektSystem="))
    result = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True, check=False
    )
    assert "ProtektSystem" in result.stderr


def test_the_unit_calls_the_verb_as_it_is(shared_bundle: Bundle) -> None:
    """Every option in the unit exists."""
    (line,) = [x for x in UNIT.read_text().splitlines() if x.startswith("ExecStart=")]
    options = re.findall(r"--[a-z-]+", line)
    shown = subprocess.run(
        [*COMMAND, "--help"], capture_output=True, text=True, env=ENVIRONMENT | {"COLUMNS": "200"}, check=True
    ).stdout
    assert options and all(option in shown for option in options)


def test_a_rotated_file_may_have_its_columns_in_another_order(shared_bundle: Bundle, tmp_path: Path) -> None:
    path, new = tmp_path / "log.csv", tmp_path / "new.csv"
    path.write_text(to_csv(VALUES[:, :610]))
    process = start(shared_bundle, str(path), "--stride", 300)
    lines = read_until(process, 1)
    rows = to_csv(VALUES[::-1, 610:1210], header=False, start=610)
    new.write_text("time,voltage,current\n" + rows)
    new.replace(path)
    lines += read_until(process, 2)
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=60)[0].count('"malformed": 0') == 1
    check_scores(shared_bundle, lines, [0, 300, 600])
