"""kill -9, two writers, and an attacker who exchanges bundles: never no bundle, never a mixed one.

`EDGESPARSE_TRIALS` sets how often; `make prove-security` sets 500.
"""

from __future__ import annotations

import os
import random
import shutil
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
from edgesparse_runtime.serving import registry as registry_module
from edgesparse_runtime.serving.addresses import Address
from edgesparse_runtime.serving.registry import Registry
from edgesparse_runtime.serving.settings import Settings
from tests.attacks.writing import TARGET, VERBS, state, whole
from tests.support.paths import ROOT
from tests.support.processes import start

TRIALS = int(os.environ.get("EDGESPARSE_TRIALS", "1"))


@pytest.fixture
def folder(tmp_path: Path, shared_bundle: Bundle) -> Path:
    """Two bundles that differ in their card, as folders and archives, and a key for each."""
    pytest.importorskip("cryptography")
    for turn in (0, 1):
        path = store_files(tmp_path / f"{turn}.edgesparse", all_files(shared_bundle)).path
        files = all_files(rewrite_bundle(open_bundle(path), {"card.md": b"card %d" % turn}, {}))
        store_files(tmp_path / f"{turn}.packed.edgesparse", files, archive=True)
        make_key_pair(tmp_path / f"{turn}.pem")
    return tmp_path


def prepare(folder: Path, verb: str) -> list[object]:
    """A target, and every state in which a reader may find it."""
    if verb not in ("output", "pack"):
        shutil.copytree(folder / "0.edgesparse", folder / TARGET)
    first = [] if verb in ("output", "pack") else [state(folder, verb)]
    for turn in (0, 1):
        VERBS[verb](folder, turn)
        first.append(state(folder, verb))
    return first


@contextmanager
def writer(folder: Path, verb: str) -> Iterator[subprocess.Popen[str]]:
    """A process that has begun to write again and again; killed at the end."""
    command = (sys.executable, "-m", "tests.attacks.writing", verb, folder)
    with start(*command, cwd=ROOT, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        # What it prints further must not fill the pipe.
        rest = threading.Thread(target=process.stdout.read)
        rest.start()
        try:
            yield process
        finally:
            process.kill()
            rest.join()


def write_once_more(folder: Path, verb: str) -> None:
    """The next write, a while after, removes the folders that killed writers left."""
    for path in folder.glob(f".{TARGET}.*"):
        if path.is_dir():
            os.utime(path, (0, 0))
        else:
            # A file that was never given its name; nothing tells whether its writer is alive.
            assert verb == "output"
            path.unlink()
    VERBS[verb](folder, 0)


@pytest.mark.parametrize("verb", VERBS)
def test_a_killed_writer_leaves_one_whole_state(verb: str, folder: Path) -> None:
    known, draw = prepare(folder, verb), random.Random(0)
    before = {path.name for path in folder.iterdir()}
    for _ in range(TRIALS):
        with writer(folder, verb):
            time.sleep(draw.uniform(0, 0.2))
        assert state(folder, verb) in known
    write_once_more(folder, verb)
    assert {path.name for path in folder.iterdir()} == before


@pytest.mark.parametrize("verb", VERBS)
def test_two_writers_and_a_reader_always_find_one_whole_state(verb: str, folder: Path) -> None:
    known = prepare(folder, verb)
    before = {path.name for path in folder.iterdir()}
    with writer(folder, verb) as first, writer(folder, verb) as second:
        for _ in range(10 * TRIALS):
            assert state(folder, verb) in known
        assert first.poll() is None and second.poll() is None
    write_once_more(folder, verb)
    assert {path.name for path in folder.iterdir()} == before


@pytest.mark.parametrize("verb", ["sign", "rewrite"])
def test_an_exchanging_attacker_gets_no_mixture(verb: str, folder: Path) -> None:
    """Somebody else exchanges the target while a verb reads and writes it."""
    originals = [all_files(open_bundle(folder / f"{turn}.edgesparse")) for turn in (0, 1)]
    prepare(folder, verb)
    with writer(folder, verb) as process:
        for trial in range(5 * TRIALS):
            store_files(folder / TARGET, originals[trial % 2])
            found = whole(folder / TARGET)
            rest = [
                {k: v for k, v in files.items() if k in _UNCHANGED[verb]} for files in (found, *originals)
            ]
            assert rest[0] in rest[1:]
        assert process.poll() is None


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
        for _ in range(5 * TRIALS):
            registry.reload_changed()
            assert registry.models()[0].bundle.sha256 in rehearsed
    finally:
        is_done.set()
        attacker.join()
