"""The remote side of `--on` ends what it started and removes its folder, however it is ended itself."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from importlib import resources
from pathlib import Path

import pytest

# Stands for a measurement of minutes that starts a process of its own.
WORKER = """
import os, subprocess, sys, time
inner = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(120)"])
with open(os.environ["TOLD"], "w") as told:
    told.write(f"{os.getpid()} {inner.pid} {os.getcwd()}")
time.sleep(120)
"""


def start(told: Path) -> subprocess.Popen[bytes]:
    """The remote side, with a measurement under way."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name in ("numpy", "onnxruntime", "edgesparse_runtime", "edgesparse_runtime/measure"):
            archive.writestr(f"site/{name}/__init__.py", "")
        archive.writestr("site/edgesparse_runtime/measure/worker.py", WORKER)
    code = resources.files("edgesparse_runtime.deploying.remote").joinpath("bootstrap.py").read_text("utf-8")
    process = subprocess.Popen(
        # Not the environment of the tests, in which the real package would come first.
        [sys._base_executable, "-c", code],  # type: ignore[attr-defined]
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "TOLD": str(told), "TMPDIR": str(told.parent)},
    )
    assert process.stdin is not None and process.stdout is not None
    payload = stream.getvalue()
    process.stdin.write(json.dumps({"size": len(payload), "install": []}).encode() + b"\n" + payload)
    process.stdin.flush()
    assert "folder" in json.loads(process.stdout.readline())
    process.stdin.write(b"{}\n")
    process.stdin.flush()
    return process


def wait_for(what: str, holds: object, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not holds():  # type: ignore[operator]
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state not in "ZX"


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc to see processes")
@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL, None])
def test_nothing_is_left(end: signal.Signals | None, tmp_path: Path) -> None:
    told = tmp_path / "told"
    process = start(told)
    wait_for("the measurement starts", lambda: told.exists() and len(told.read_text().split()) == 3)
    worker, inner, folder = told.read_text().split()
    assert is_alive(int(worker)) and is_alive(int(inner)) and Path(folder).is_dir()
    assert process.stdin is not None and process.stdout is not None
    if end is None:
        process.stdin.close()
    else:
        process.send_signal(end)
    process.wait(timeout=60)
    wait_for("the measurement ends", lambda: not is_alive(int(worker)))
    wait_for("what it started ends", lambda: not is_alive(int(inner)))
    wait_for("the folder goes", lambda: not Path(folder).exists())
    if end is not None:
        process.stdin.close()
    process.stdout.close()
