"""`edgesparse monitor`, `run --follow --monitor` and `serve --monitor`, as a user runs them."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from edgesparse_runtime.bundle.read import Bundle
from edgesparse_runtime.cli.app import run
from edgesparse_runtime.stream.monitor.reference import FILE
from tests.support.processes import check_one_line, edgesparse, start
from tests.support.running import running
from tests.support.synthetic import make_series

CUT = ("--window", "100", "--stride", "25")
RATE = ("--false-alarms", "1/20000w")


def to_csv(values: np.ndarray, first: int = 0) -> str:
    rows = (f"{0.02 * (first + k):.2f},{v[0]!r},{v[1]!r}" for k, v in enumerate(values.T.tolist()))
    return "\n".join(["time,current,voltage", *rows]) + "\n"


def cli(*arguments: object) -> subprocess.CompletedProcess[str]:
    """`edgesparse ARGUMENTS` in this process, which is faster."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run(list(map(str, arguments)))
    return subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())


def make_recording(steps: int) -> np.ndarray:
    """A machine in order: a hum of no even length, and noise."""
    rng = np.random.default_rng(7)
    phase = np.cumsum(0.15 + 0.05 * rng.standard_normal(steps))
    return np.sin(phase + np.array([[0.0], [1.0]])) + 0.2 * rng.standard_normal((2, steps))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recordings: one in order to learn from, one in order, one with a level that has moved."""
    folder: Path = tmp_path_factory.mktemp("monitor")
    values = make_recording(96_000)
    learned, later = values[:, :64_000], values[:, 64_000:]
    (folder / "learn.csv").write_text(to_csv(learned), encoding="utf-8")
    (folder / "same.csv").write_text(to_csv(later), encoding="utf-8")
    moved = later + np.array([[1.2], [0.0]])
    (folder / "moved.csv").write_text(to_csv(moved), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def learned(files: Path, shared_bundle: Bundle) -> Path:
    """A bundle with a reference."""
    path = files / "pump.edgesparse"
    shutil.copytree(shared_bundle.path, path)
    done = cli("monitor", "learn", path, files / "learn.csv", *CUT, "--json")
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert (facts["schema"], facts["problem"]) == ("edgesparse.monitor_learn/1", "")
    assert facts["seconds_per_window"] == pytest.approx(0.5)
    return path


def test_export_with_data_writes_a_reference(shared_bundle: Bundle) -> None:
    assert FILE in shared_bundle.manifest["files"]


def test_a_line_in_order_gives_no_alarm(learned: Path, files: Path) -> None:
    done = cli("monitor", learned, files / "same.csv", *CUT, *RATE, "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert (result["alarms"], result["promised"]) == ([], True)


def test_a_changed_line_names_its_signal_and_draws_it(learned: Path, files: Path, tmp_path: Path) -> None:
    for form in ("html", "svg"):
        picture = tmp_path / f"change.{form}"
        done = cli("monitor", learned, files / "moved.csv", *CUT, *RATE, "--json", "-o", picture)
        assert done.returncode == 3, done.stderr
        alarm = json.loads(done.stdout)["alarms"][0]
        assert (alarm["kind"], alarm["carriers"][0]["signal"]) == ("change", "level.current")
        assert alarm["carriers"][0]["direction"] == "higher"
        text = picture.read_text(encoding="utf-8")
        assert "level.current higher" in text
        assert "<script" not in text
        assert text.count("<svg") == text.count("</svg>")


def test_stored_scores_are_enough_for_scores(learned: Path, files: Path, tmp_path: Path) -> None:
    scores = tmp_path / "scores.jsonl"
    with (files / "same.csv").open(encoding="utf-8") as source:
        done = edgesparse("run", learned, "-", "--follow", *CUT, "-o", scores, stdin=source)
    assert done.returncode == 0, done.stderr
    done = cli("monitor", learned, scores, *RATE, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["windows"] > 1_000


def test_late_labels_find_harm(learned: Path, files: Path, tmp_path: Path) -> None:
    values = make_series(60, seed=9, steps=600)
    rows = ["series,label,current,voltage"]
    wrong = {"fast": "slow", "slow": "fast"}
    for i, (series, label) in enumerate(zip(values.series, values.labels, strict=True)):  # type: ignore[arg-type]
        rows += [f"{i},{wrong[str(label)]},{a!r},{b!r}" for a, b in series.T[:200].tolist()]
    (tmp_path / "late.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    options = ("--false-alarms", "1/5000w", "--labels", "--error-limit", "0.2", "--json")
    done = cli("monitor", learned, tmp_path / "late.csv", "--window", "100", *options)
    assert done.returncode == 3, done.stderr
    assert json.loads(done.stdout)["alarms"][0]["kind"] == "harm"


def test_evidence_survives_in_the_state(learned: Path, files: Path, tmp_path: Path) -> None:
    state = tmp_path / "state.json"
    lines = (files / "moved.csv").read_text(encoding="utf-8").splitlines()
    evidence = []
    for part in (lines[:4_000], [lines[0], *lines[4_000:8_000]]):
        (tmp_path / "part.csv").write_text("\n".join(part) + "\n", encoding="utf-8")
        done = cli(
            "monitor",
            learned,
            tmp_path / "part.csv",
            *CUT,
            "--false-alarms",
            "1/9000000w",
            "--state",
            state,
            "--json",
        )
        evidence.append(json.loads(done.stdout)["evidence"])
    assert evidence[1] > 2 * evidence[0] > 0
    assert state.stat().st_size < 8_192


def test_what_does_not_fit_is_refused_in_one_line(learned: Path, files: Path, tmp_path: Path) -> None:
    data = files / "same.csv"
    (tmp_path / "state.json").write_text("{}", encoding="utf-8")
    for arguments, message in [
        ([learned], "must be given a bundle and its data"),
        ([learned, data, "--for", "7d"], "is for `edgesparse monitor learn`"),
        ([learned, data, "--false-alarms", "often"], "must be a count per time"),
        ([learned, data, "--false-alarms", "1/10w"], "two blocks of this reference"),
        ([learned, data, "--state", tmp_path / "state.json"], "must be a state of `--monitor`"),
        ([learned, data, "-o", "x.png"], "must end in .html or .svg"),
        (["learn", learned, data, "--context", "moon"], "must be hour or group"),
    ]:
        check_one_line(cli("monitor", *arguments, *CUT), 2, message)


def test_a_stream_gives_alarm_lines_and_keeps_its_state(learned: Path, files: Path, tmp_path: Path) -> None:
    state = tmp_path / "state.json"
    options = ("--follow", *CUT, *RATE, "--monitor", state, "--precision", "float32")
    with (files / "moved.csv").open(encoding="utf-8") as source:
        done = edgesparse("run", learned, "-", *options, stdin=source)
    assert done.returncode == 3, done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    alarm = next(e for e in events if e["event"] == "alarm")
    assert alarm["carriers"][0]["signal"] == "level.current"
    assert events[-1]["monitor"]["alarms"] >= 1
    assert json.loads(state.read_text(encoding="utf-8"))["schema"] == "edgesparse.monitor-state/1"


def test_a_commissioning_period_survives_a_kill(learned: Path, files: Path, tmp_path: Path) -> None:
    lines = (files / "learn.csv").read_text(encoding="utf-8").splitlines(keepends=True)
    reference = tmp_path / "reference.json"
    command = ("monitor", "learn", learned, "-", "--for", "15min", "-o", reference)
    first = start(sys.executable, "-m", "edgesparse_runtime.cli", *command, stdin=subprocess.PIPE)
    assert first.stdin is not None
    first.stdin.write("".join(lines[:20_000]))
    first.stdin.flush()
    kept = tmp_path / "reference.json.learning"
    deadline = time.monotonic() + 30
    while not (kept.exists() and kept.stat().st_size > 5_000) and time.monotonic() < deadline:
        time.sleep(0.05)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    assert kept.exists()
    done = edgesparse(*command, text="".join([lines[0], *lines[20_000:]]))
    assert done.returncode == 0, done.stderr
    assert "resumes with" in done.stderr
    assert json.loads(reference.read_text(encoding="utf-8"))["windows"] > 100
    assert not kept.exists()


def test_a_server_shows_gauges_and_logs_alarms(learned: Path, tmp_path: Path) -> None:
    with running(learned, "--monitor", tmp_path, "--false-alarms", "1/2000w") as server:
        window = np.concatenate(make_series(2, seed=3).series, axis=1)[:, :100] + 3.0
        body = json.dumps(
            {
                "inputs": [
                    {
                        "name": "window",
                        "shape": [8, 2, 100],
                        "datatype": "FP32",
                        "data": np.stack([window] * 8).ravel().tolist(),
                    }
                ]
            }
        )
        for _ in range(80):
            assert server.ask("POST", "/v2/models/pump/infer", body).status == 200
        metrics = server.ask("GET", "/metrics").body.decode()
    assert 'edgesparse_monitor_windows{model="pump",version="1"} 640.0' in metrics
    assert "edgesparse_monitor_evidence{" in metrics
    assert any(e["event"] == "alarm" for e in server.events)
    assert (tmp_path / "pump-1.json").exists()
