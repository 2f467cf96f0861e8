"""The finding of measurements on another machine: 23."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from benchmarks.findings.box import Box, Outcome, environment

_MARK = "EDGESPARSE_FAR_SIDE"
_VERB = "import sys\nfrom edgesparse_runtime.cli.app import run\nsys.exit(run(sys.argv[1:]))"


def far_side(box: Box) -> Outcome:
    """SIGTERM to the far side of `profile --on`, with a stand-in for ssh that runs the command here."""
    tools, far = box.folder / "bin", box.folder / "far"
    tools.mkdir()
    far.mkdir()
    (tools / "ssh").write_text(
        f'#!/bin/sh\nfor last; do :; done\n{_MARK}={far} TMPDIR={far} exec sh -c "$last"\n'
    )
    (tools / "ssh").chmod(0o755)
    command = [box.python, "-c", _VERB, "profile", str(box.bundle("m")), "--on", "ssh://u@h"]
    command += ["--remote-python", box.python, "--seconds", "20", "--no-modules", "--length", "64"]
    variables = environment() | {"PATH": f"{tools}:{os.environ['PATH']}"}
    process = subprocess.Popen(
        command, cwd=box.folder, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    try:
        end = time.monotonic() + 60
        while len(_far(far)) < 2 and time.monotonic() < end and process.poll() is None:
            time.sleep(0.1)
        time.sleep(3)
        started = _far(far)
        if len(started) < 2:
            assert process.stdout is not None
            raise RuntimeError(f"nothing is measured: {process.stdout.read()[-300:]!r}")
        os.kill(min(started), signal.SIGTERM)
        time.sleep(5)
        left = _far(far)
        return Outcome(bool(left), f"{len(left)} of {len(started)} processes still run 5 s later")
    finally:
        for pid in [*_far(far), process.pid]:
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        process.wait()


def _far(folder: Path) -> list[int]:
    """Living processes of the far side."""
    mark, found = f"{_MARK}={folder}".encode(), []
    for place in Path("/proc").iterdir():
        with suppress(OSError):
            if place.name.isdigit() and mark in (place / "environ").read_bytes().split(b"\0"):
                found.append(int(place.name))
    return found


ATTACKS = {23: far_side}
