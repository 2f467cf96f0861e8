"""What a process asks of the network: a predicting runner under strace.

onnxruntime's official builds look for their telemetry server some ten seconds after the first session, so the
process lives longer than that. With telemetry left on, the run is done in an empty network namespace: it must
not tell anybody anything only because we measure.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.support.paths import SOURCES

ALIVE_SECONDS = 16.0
PREDICT = """
import sys, time
import numpy
from edgesparse_runtime import Session
session = Session(sys.argv[1], threads=1)
steps = session.bundle.manifest["input"]["longest"]
for i in range(100):
    session.predict(numpy.random.default_rng(i).standard_normal((1, session.channel_count, steps)))
time.sleep(float(sys.argv[2]))
print("predicted")
"""


@dataclass(frozen=True)
class Attempts:
    """What was asked for.

    Attributes:
        calls: internet sockets made, as strace writes them.
        files: what was written into the home folder.
    """

    calls: list[str]
    files: list[str]


def missing_tool() -> str | None:
    """Why attempts cannot be watched here, or None."""
    if shutil.which("strace") is None:
        return "strace is not installed"
    probe = subprocess.run(["strace", "-f", "-o", os.devnull, "true"], capture_output=True, check=False)
    return None if probe.returncode == 0 else "strace may not trace here"


def can_isolate() -> bool:
    """True where a process can be started without any network."""
    return subprocess.run(["unshare", "-rn", "true"], capture_output=True, check=False).returncode == 0


def watch(bundle: Path, *, telemetry_on: bool = False, seconds: float = ALIVE_SECONDS) -> Attempts:
    """Predict with `bundle` in a fresh process and home, and list what it asked of the network.

    Raises:
        RuntimeError: the process failed.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "home").mkdir()
        ours = ("ORT_DISABLE_TELEMETRY", "ORT_TELEMETRY_DISABLED", "XDG_CACHE_HOME")
        environment = {key: value for key, value in os.environ.items() if key not in ours}
        environment |= {"HOME": str(folder / "home"), "PYTHONPATH": SOURCES}
        command = ["strace", "-f", "-qq", "-e", "trace=network", "-o", str(folder / "calls")]
        command += [sys.executable, "-c", PREDICT, str(bundle), str(seconds)]
        if telemetry_on:
            # What the user sets stands: the runner only fills in what is not set.
            environment |= {"ORT_DISABLE_TELEMETRY": "0", "ORT_TELEMETRY_DISABLED": "0"}
            command = ["unshare", "-rn", *command]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.stdout != "predicted\n":
            raise RuntimeError(done.stderr.strip() or done.stdout)
        calls = (folder / "calls").read_text().splitlines()
        files = [str(p.relative_to(folder)) for p in (folder / "home").rglob("*") if p.is_file()]
    return Attempts([call for call in calls if re.search(r"\bAF_INET6?\b", call)], files)
