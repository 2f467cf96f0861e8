"""The process of a shadow: loads the bundle on trial and runs it on what the server has answered.

Whatever the bundle does to its process (abort it, exhaust its memory, never return) happens here. Time is
that of the processor: this process has the lowest priority, so the time until a run is done tells nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edgesparse_runtime.errors import EdgeSparseError
from edgesparse_runtime.operation.rollout.comparison import compare
from edgesparse_runtime.serving.addresses import Address
from edgesparse_runtime.serving.sandbox import SECONDS, limit_memory
from edgesparse_runtime.serving.served_text import load_any
from edgesparse_runtime.serving.settings import Settings
from edgesparse_runtime.serving.shadow.wire import receive, send


def main(request: dict[str, Any]) -> int:
    """Answer each message with the counts of its windows, until the server ends."""
    limit_memory()
    with contextlib.suppress(OSError):
        # Where memory runs out, this process goes and not the server.
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    source = sys.stdin.buffer
    # What a library prints is no message.
    target = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    keys = tuple(Path(key) for key in request["trusted_keys"])
    settings = Settings(**request["settings"], trusted_keys=keys)
    _end_after(SECONDS)
    try:
        session = load_any(Address("shadow", "1", Path(request["path"])), settings).session
    except EdgeSparseError as error:
        send(target, {"broken": " ".join(str(error).split())})
        return error.exit_code
    _end_after(0.0)
    _take_lowest_priority()
    send(target, {"ready": True})
    while (message := receive(source)) is not None:
        head, (windows, scores) = message
        _end_after(settings.timeout * settings.threads)
        found = compare(session, windows, scores, head["seconds"], time.thread_time)
        _end_after(0.0)
        if head["waited"] + found.trial_s > settings.timeout:
            found.late = found.windows
        send(target, asdict(found))
    return 0


def _end_after(seconds: float) -> None:
    """Let the system end this process after so much processor time, even in a run; 0 = never."""
    if hasattr(signal, "setitimer"):  # not on Windows
        signal.setitimer(signal.ITIMER_PROF, seconds)


def _take_lowest_priority() -> None:
    """From now on, all threads run when nobody else wants the processor; loading took a low one."""
    if not hasattr(os, "setpriority"):  # on Windows
        return
    tasks = Path("/proc/self/task")
    for thread in [int(path.name) for path in tasks.iterdir()] if tasks.is_dir() else [0]:
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, thread, 19)


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
