"""A rollout's shadow in a real server: it counts what was sent, and changes no answer."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgesparse_runtime.bundle.read import Bundle, open_bundle
from edgesparse_runtime.bundle.write import copy_bundle
from edgesparse_runtime.operation.rollout.store import LINK, Store, Trial
from edgesparse_runtime.serving.batching import Scored
from edgesparse_runtime.serving.settings import Settings
from edgesparse_runtime.serving.shadow.runner import MOST_BYTES, MOST_RUNS, Runner
from tests.support.running import Answer, Running, running

WINDOWS = np.random.default_rng(5).standard_normal((40, 2, 300)).astype(np.float32)
FAST = ("--reload-every", 0.1, "--no-rehearse")


def wait_for(holds: Callable[[], object], seconds: float = 100.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def releases(float_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> list[Bundle]:
    """The same weights three times; the last has other golden scores than its model."""
    folder: Path = tmp_path_factory.mktemp("shadow")
    golden = float_bundle.golden()
    golden["scores_float32"] = golden["scores_float32"][:, ::-1]
    np.savez(folder / "golden.npz", **golden)  # type: ignore[arg-type]
    wrong = {"golden.npz": (folder / "golden.npz").read_bytes()}
    changes: list[dict[str, bytes]] = [{}, {}, wrong]
    return [
        copy_bundle(float_bundle, folder / f"r{i}.edgesparse", files, {"release": i})
        for i, files in enumerate(changes, 1)
    ]


@pytest.fixture
def folder(releases: list[Bundle], tmp_path: Path) -> Path:
    """A store whose current bundle is release 1."""
    begin(tmp_path / "store", releases[0])
    return tmp_path / "store"


def begin(folder: Path, bundle: Bundle, seconds: float = 600) -> None:
    store = Store(folder, create=True)
    store.begin(bundle, "shadow", seconds)
    store.close()


def trial_of(folder: Path) -> Trial | None:
    store = Store(folder)
    found = store.trial()
    store.close()
    return found


def last(folder: Path) -> dict[str, Any]:
    store = Store(folder)
    found = store.audit()[-1]
    store.close()
    return found


def counted(folder: Path) -> int:
    trial = trial_of(folder)
    return 0 if trial is None else trial.windows


def serve(folder: Path) -> Any:
    return running(f"pump={folder / LINK}", *FAST)


def answer(server: Running, rows: np.ndarray[Any, Any]) -> Answer:
    found = server.infer("pump", rows)
    assert found.status == 200, found.body
    return found


def gauge(server: Running, name: str) -> float | None:
    for line in server.ask("GET", "/metrics").body.decode().splitlines():
        if line.startswith(f"edgesparse_shadow_{name}{{"):
            return float(line.split()[-1])
    return None


def shadow_pid(server: Running) -> int:
    """The process of the server's shadow; 0 = there is none."""
    children = Path(f"/proc/{server.process.pid}/task").glob("*/children")
    for pid in " ".join(path.read_text() for path in children).split():
        try:
            if b"serving.shadow.process" in Path(f"/proc/{pid}/cmdline").read_bytes():
                return int(pid)
        except OSError:
            continue
    return 0


def test_a_shadow_is_compared_on_what_was_sent(folder: Path, releases: list[Bundle]) -> None:
    """Its counts are those of the windows; the answers are those without it, to the last bit."""
    sizes = [1, 3, 8, 1, 13, 6, 8]
    ends = np.cumsum(sizes)
    assert ends[-1] == len(WINDOWS)
    parts = np.split(WINDOWS, ends[:-1])
    with serve(folder) as server:
        plain = [answer(server, part).body for part in parts]
        assert shadow_pid(server) == 0 and gauge(server, "windows") is None
        begin(folder, releases[1])
        wait_for(lambda: server.event("shadow"))
        beside = [answer(server, part).body for part in parts]
        assert beside == plain
        wait_for(lambda: counted(folder) == len(WINDOWS))
        trial = trial_of(folder)
        assert trial is not None and (trial.equal, trial.failed, trial.late) == (len(WINDOWS), 0, 0)
        # The same model on the same runs, in time of the processor.
        assert 0.2 < trial.trial_ms / trial.current_ms < 5
        shown = [gauge(server, n) for n in ("windows", "equal_windows", "failed_windows", "dropped_windows")]
        assert shown == [len(WINDOWS), len(WINDOWS), 0, 0]
        assert gauge(server, "score_difference") == 0 and gauge(server, "trial_milliseconds") > 0  # type: ignore[operator]
        pid = shadow_pid(server)
        assert os.getpriority(os.PRIO_PROCESS, pid) == 19
        answer(server, WINDOWS[:5])
        # What is not written yet is written at the end, which takes no trial back.
        assert server.end() == 0
        assert counted(folder) in (len(WINDOWS), len(WINDOWS) + 5) and not Path(f"/proc/{pid}").exists()
        line = server.event("shadow")
        assert line is not None and line["message"] == "ends: the server stops" and line["dropped"] == 0


def test_differences_are_counted(folder: Path, float_bundle: Bundle, tmp_path: Path) -> None:
    """A challenger that decides otherwise: equal, and apart by what was measured here."""
    other = _reversed(float_bundle, tmp_path)
    with serve(folder) as server:
        begin(folder, other)
        wait_for(lambda: server.event("shadow"))
        scores = np.array(answer(server, WINDOWS[:8]).json["outputs"][0]["data"]).reshape(8, -1)
        wait_for(lambda: counted(folder) == 8)
        trial = trial_of(folder)
        assert trial is not None
        assert trial.equal == int((scores.argmax(1) == scores[:, ::-1].argmax(1)).sum()) == 0
        assert gauge(server, "score_difference") == pytest.approx(
            np.abs(scores - scores[:, ::-1]).mean(), rel=1e-4
        )


def test_a_shadow_that_does_not_keep_up_is_left_out(folder: Path, releases: list[Bundle]) -> None:
    """It stands still: answers come as before, the queue is bounded, and what is left out is counted."""
    begin(folder, releases[1])
    with serve(folder) as server:
        wait_for(lambda: shadow_pid(server))
        answer(server, WINDOWS[:1])
        wait_for(lambda: counted(folder) == 1)
        os.kill(shadow_pid(server), signal.SIGSTOP)
        body = {"inputs": [{"name": "window", "datatype": "FP32", "shape": [64, 2, 2000]}]}
        big = np.zeros((64, 2, 2000), np.float32)
        sent = 0
        while not gauge(server, "dropped_windows"):
            assert body and answer(server, big).status == 200
            sent += 64
            assert sent * big[0].nbytes < 3 * MOST_BYTES, "nothing is ever left out"
        queued, dropped = gauge(server, "queued_runs"), gauge(server, "dropped_windows")
        assert dropped and queued and queued <= MOST_RUNS
        os.kill(shadow_pid(server), signal.SIGCONT)
        wait_for(lambda: counted(folder) + (gauge(server, "dropped_windows") or 0) == 1 + sent, 200)


def test_a_shadow_whose_process_dies_goes_back(folder: Path, releases: list[Bundle]) -> None:
    begin(folder, releases[1])
    with serve(folder) as server:
        wait_for(lambda: shadow_pid(server))
        before = answer(server, WINDOWS[:2])
        wait_for(lambda: counted(folder) == 2)
        os.kill(shadow_pid(server), signal.SIGSEGV)
        # It is noticed without a request.
        wait_for(lambda: trial_of(folder) is None)
        assert (last(folder)["action"], last(folder)["sha256"]) == ("back", releases[1].sha256)
        assert last(folder)["detail"] == "its process in a server crashed (signal 11)"
        wait_for(lambda: "back" in (server.event("shadow") or {})["message"])
        assert answer(server, WINDOWS[:2]).body == before.body and gauge(server, "windows") is None


def test_a_shadow_that_fails_its_rehearsal_goes_back(folder: Path, releases: list[Bundle]) -> None:
    begin(folder, releases[2])
    with serve(folder) as server:
        before = answer(server, WINDOWS[:2])
        wait_for(lambda: trial_of(folder) is None)
        assert "failed its rehearsal in a server" in last(folder)["detail"]
        assert "must reproduce its golden scores" in last(folder)["detail"]
        assert answer(server, WINDOWS[:2]).body == before.body


@pytest.mark.parametrize("way", ["promote", "back"])
def test_the_end_of_a_trial_is_followed(folder: Path, releases: list[Bundle], way: str) -> None:
    """Promotion and rollback change what answers without a restart, and end the shadow."""
    begin(folder, releases[1])
    with serve(folder) as server:
        wait_for(lambda: shadow_pid(server))
        assert answer(server, WINDOWS[:1]).headers["edgesparse-bundle"] == releases[0].sha256
        store = Store(folder)
        if way == "promote":
            store.accept("promote")
        else:
            store.back("by hand")
        store.close()
        wait_for(lambda: not shadow_pid(server))
        wait_for(lambda: (server.event("shadow") or {})["message"].startswith(f"ends: {way}"))
        now = releases[1 if way == "promote" else 0].sha256
        wait_for(lambda: answer(server, WINDOWS[:1]).headers["edgesparse-bundle"] == now)
        assert gauge(server, "windows") is None


def test_silence_at_the_deadline_is_followed(folder: Path, releases: list[Bundle]) -> None:
    with serve(folder) as server:
        begin(folder, releases[1], seconds=1.5)
        wait_for(lambda: server.event("shadow"))
        # Nobody but the server opens the store.
        wait_for(lambda: "not confirmed by its deadline" in (server.event("shadow") or {})["message"])
        assert last(folder)["action"] == "back"


def test_a_server_that_is_killed_takes_no_shadow_back(folder: Path, releases: list[Bundle]) -> None:
    """The bundle on trial did not do it; its process ends with the server."""
    begin(folder, releases[1])
    with serve(folder) as server:
        wait_for(lambda: shadow_pid(server))
        answer(server, WINDOWS[:3])
        wait_for(lambda: counted(folder) == 3)
        pid = shadow_pid(server)
        server.process.kill()
        wait_for(lambda: not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text())
    assert counted(folder) == 3


@pytest.fixture
def runner(releases: list[Bundle]) -> Iterator[Runner]:
    started = Runner(releases[1].path, Settings(precision="float32", timeout=5))
    yield started
    started.stop()


def _scored(rows: int = 1, waited: float = 0.0, columns: int = 2) -> Scored:
    return Scored([WINDOWS[:rows]], [np.zeros((rows, columns), np.float32)], 1e-3, waited)


def test_late_answers_are_counted(runner: Runner) -> None:
    """A window that had waited for as long as its request may take would have been answered too late."""
    runner.offer(_scored(4, waited=5.0))
    runner.offer(_scored(3))
    wait_for(lambda: runner.counts.windows == 7)
    assert runner.counts.late == 4 and runner.problem == ""


def test_a_run_that_takes_too_long_is_ended(releases: list[Bundle]) -> None:
    """The system ends it in the middle, after the processor time that a request may take."""
    runner = Runner(releases[1].path, Settings(precision="float32", timeout=0.02))
    long = np.zeros((16, 2, 20_000), np.float32)
    runner.offer(Scored([long], [np.zeros((16, 2), np.float32)], 1e-3, 0.0))
    wait_for(lambda: runner.problem or runner.counts.windows)
    assert runner.problem == "a run in a server took too long"
    # What comes now is left out.
    runner.offer(_scored(2))
    assert runner.dropped == 2
    runner.stop()


def _reversed(bundle: Bundle, folder: Path) -> Bundle:
    """The bundle with its scores the other way round, golden ones too."""
    onnx = pytest.importorskip("onnx")
    model = onnx.load_from_string(bundle.read("model.onnx"))
    for node in model.graph.node:
        for place, name in enumerate(node.output):
            if name == "scores":
                node.output[place] = "scores_before"
    helper = onnx.helper
    model.graph.initializer.append(helper.make_tensor("order", onnx.TensorProto.INT64, [2], [1, 0]))
    model.graph.node.append(helper.make_node("Gather", ["scores_before", "order"], ["scores"], axis=1))
    golden = bundle.golden()
    golden["scores_float32"] = golden["scores_float32"][:, ::-1]
    np.savez(folder / "golden.npz", **golden)  # type: ignore[arg-type]
    files = {"model.onnx": model.SerializeToString(), "golden.npz": (folder / "golden.npz").read_bytes()}
    changed = copy_bundle(bundle, folder / "other.edgesparse", files, {"release": 8})
    return open_bundle(changed.path)
