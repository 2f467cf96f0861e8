"""kill -9, two writers, and an attacker who exchanges bundles: never no bundle, never a mixed one.

`EDGESPARSE_TRIALS` sets how often; `make prove-security` sets 500.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from edgesparse_runtime.bundle.read import Bundle, all_files, open_bundle
from edgesparse_runtime.bundle.signature import make_key_pair
from edgesparse_runtime.bundle.write import rewrite_bundle, store_files
from edgesparse_runtime.data.readers.write import write_csv
from edgesparse_runtime.data.series_set import SeriesSet
from edgesparse_runtime.serving import registry as registry_module
from edgesparse_runtime.serving.addresses import Address
from edgesparse_runtime.serving.registry import Registry
from edgesparse_runtime.serving.settings import Settings
from tests.attacks.writing import NEW, SERIES, TARGET, VERBS, state, whole
from tests.support.paths import ROOT
from tests.support.processes import start

TRIALS = int(os.environ.get("EDGESPARSE_TRIALS", "1"))


@pytest.fixture
def folder(tmp_path: Path, shared_bundle: Bundle, series: SeriesSet) -> Path:
    """Two bundles that differ in their card, as folders and archives, a key for each, and series."""
    pytest.importorskip("cryptography")
    for turn in (0, 1):
        path = store_files(tmp_path / f"{turn}.edgesparse", all_files(shared_bundle)).path
        files = all_files(rewrite_bundle(open_bundle(path), {"card.md": b"card %d" % turn}, {}))
        store_files(tmp_path / f"{turn}.packed.edgesparse", files, archive=True)
        make_key_pair(tmp_path / f"{turn}.pem")
    write_csv(tmp_path / SERIES, SeriesSet(series.series[:2], series.channels))
    return tmp_path


class Writers:
    """Processes that write again and again, each a fork of one that has imported everything."""

    def __init__(self, server: subprocess.Popen[str]) -> None:
        self._server = server

    @contextmanager
    def start(self, folder: Path, verb: str) -> Iterator[None]:
        """One that has begun to write; killed at the end, and never ended before."""
        process = int(self._ask(f"{verb} {folder}"))
        try:
            yield
        finally:
            os.kill(process, signal.SIGKILL)
            assert int(self._ask(f"ends {process}")) == -signal.SIGKILL

    def _ask(self, line: str) -> str:
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(line + "\n")
        self._server.stdin.flush()
        return self._server.stdout.readline()


@pytest.fixture(scope="module")
def writers() -> Iterator[Writers]:
    command = (sys.executable, "-m", "tests.attacks.writing")
    with start(*command, cwd=ROOT, stdin=subprocess.PIPE, stderr=None) as server:
        yield Writers(server)
        assert server.stdin is not None
        server.stdin.close()


def prepare(folder: Path, verb: str) -> list[object]:
    """A target, and every state in which a reader may find it."""
    if verb not in NEW:
        shutil.copytree(folder / "0.edgesparse", folder / TARGET)
    first = [] if verb in NEW else [state(folder, verb)]
    for turn in (0, 1):
        VERBS[verb](folder, turn)
        first.append(state(folder, verb))
    return first


def names(folder: Path) -> set[str]:
    """Of all that is there, hidden or not."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.mark.parametrize("verb", VERBS)
def test_a_killed_writer_leaves_one_whole_state(verb: str, folder: Path, writers: Writers) -> None:
    """And the next writer removes what the killed ones left."""
    known, draw = prepare(folder, verb), random.Random(0)
    before = names(folder)
    for _ in range(TRIALS):
        with writers.start(folder, verb):
            time.sleep(draw.uniform(0, 0.2))
        assert state(folder, verb) in known
    VERBS[verb](folder, 0)
    assert names(folder) == before


@pytest.mark.parametrize("verb", VERBS)
def test_two_writers_and_a_reader_always_find_one_whole_state(
    verb: str, folder: Path, writers: Writers
) -> None:
    known = prepare(folder, verb)
    before = names(folder)
    with writers.start(folder, verb), writers.start(folder, verb):
        for _ in range(max(5, TRIALS)):
            assert state(folder, verb) in known
    VERBS[verb](folder, 0)
    assert names(folder) == before


@pytest.mark.parametrize("verb", ["sign", "rewrite"])
def test_an_exchanging_attacker_gets_no_mixture(verb: str, folder: Path, writers: Writers) -> None:
    """Somebody else exchanges the target while a verb reads and writes it."""
    originals = [all_files(open_bundle(folder / f"{turn}.edgesparse")) for turn in (0, 1)]
    prepare(folder, verb)
    with writers.start(folder, verb):
        for trial in range(max(5, TRIALS)):
            store_files(folder / TARGET, originals[trial % 2])
            found = whole(folder / TARGET)
            rest = [
                {k: v for k, v in files.items() if k in _UNCHANGED[verb]} for files in (found, *originals)
            ]
            assert rest[0] in rest[1:]


# What the verb does not write must be of one bundle, whatever it signs or adds.
_UNCHANGED = {"sign": ("manifest.json", "card.md", "model.onnx"), "rewrite": ("model.onnx", "golden.npz")}


def test_an_exchanging_attacker_gets_no_unrehearsed_bundle_served(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is exchanged during reloads, only what was rehearsed is served."""
    path, rehearsed = folder / TARGET, set[str]()
    shutil.copytree(folder / "0.edgesparse", path)
    rehearsed.add(open_bundle(path).sha256)
    registry = Registry([Address("pump", "1", path)], Settings(precision="float32", threads=1))
    draw, is_done = random.Random(0), threading.Event()

    def rehearse(address: Address, settings: Settings) -> str:
        seen = open_bundle(address.path).sha256
        rehearsed.add(seen)
        time.sleep(draw.uniform(0, 0.01))
        return seen

    def exchange() -> None:
        for count in range(1_000_000):
            if is_done.is_set():
                return
            rewrite_bundle(open_bundle(path), {"card.md": b"exchanged %d" % count}, {})
            time.sleep(0.005)

    monkeypatch.setattr(registry_module, "rehearse", rehearse)
    attacker = threading.Thread(target=exchange)
    attacker.start()
    try:
        for _ in range(max(5, TRIALS)):
            registry.reload_changed()
            assert registry.models()[0].bundle.sha256 in rehearsed
    finally:
        is_done.set()
        attacker.join()
