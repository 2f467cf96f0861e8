"""kill -9 at random moments, of the writer of a bundle and of the server that reloads it."""

from __future__ import annotations

import itertools
import os
import random
import signal
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.serving.bundles import Pair, bundle_hash, put
from edgesparse_runtime.bundle.read import Bundle, open_bundle
from edgesparse_runtime.errors import EdgeSparseError
from tests.support.running import Running, running

# Every so many kills of a writer, the server is killed too, in the middle of reloading.
SERVER_EVERY = 10


def kill_at_random(pair: Pair, kills: int, seed: int) -> dict[str, Any]:
    """`kills` kills; after each, the bundle on disk opens and the server answers by one of the two."""
    draw = random.Random(seed)
    known = {bundle_hash(bundle) for bundle in pair.bundles}
    found = {"writers": 0, "servers": 0, "broken_on_disk": 0, "wrong_answers": 0, "left_over": 0}
    with TemporaryDirectory() as folder:
        path = Path(folder) / "pump.edgesparse"
        put(pair.bundles[0], path)
        while found["writers"] + found["servers"] < kills:
            with running(path, "--reload-every", 0.05, "--no-rehearse") as server:
                for _ in range(SERVER_EVERY - 1):
                    if found["writers"] + found["servers"] < kills:
                        _kill_writer(pair.bundles, path, draw)
                        found["writers"] += 1
                        found["broken_on_disk"] += not _is_whole(path, known)
                        found["wrong_answers"] += not _answers(server, pair)
                # One more replacement, and the server dies while it takes it in.
                put(pair.bundles[found["servers"] % 2], path)
                time.sleep(draw.uniform(0, 0.15))
                server.process.kill()
                found["servers"] += 1
                found["broken_on_disk"] += not _is_whole(path, known)
        with running(path) as server:
            found["wrong_answers"] += not _answers(server, pair)
        found["left_over"] = len(list(Path(folder).iterdir())) - 1
    return found


def _kill_writer(bundles: tuple[Bundle, Bundle], path: Path, draw: random.Random) -> None:
    """A process of its own replaces the bundle again and again, until it is killed."""
    child = os.fork()
    if child == 0:
        try:
            for bundle in itertools.cycle(bundles):
                put(bundle, path)
        finally:
            os._exit(1)
    time.sleep(draw.uniform(0.0, 0.25))
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), "the writer ended by itself"


def _is_whole(path: Path, known: set[str]) -> bool:
    try:
        return bundle_hash(open_bundle(path)) in known
    except EdgeSparseError:
        return False


def _answers(server: Running, pair: Pair) -> bool:
    """True when the server gives the scores of the model that it names."""
    answer = server.infer("pump", pair.windows[0])
    if answer.status != 200 or answer.headers["edgesparse-bundle"] not in pair.expected:
        return False
    own = pair.expected[answer.headers["edgesparse-bundle"]][0]
    return bool(np.allclose(answer.json["outputs"][0]["data"], own, rtol=1e-4, atol=1e-5))
