"""`Runner`: the server's side of one shadow: a bounded queue, and the process that it feeds."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np

from edgesparse_runtime.arrays import FloatArray
from edgesparse_runtime.operation.rollout.comparison import Counts
from edgesparse_runtime.serving.batching import Scored
from edgesparse_runtime.serving.settings import Settings
from edgesparse_runtime.serving.shadow.wire import receive, send

# Of what waits for the shadow: model runs, and bytes of windows.
MOST_RUNS = 256
MOST_BYTES = 16 << 20
_END_SECONDS = 2.0
# Between looks whether the process is still there while nothing is asked of it.
_POLL_SECONDS = 0.5
# Nice values.
_START, _LOWEST = 10, 19


class Runner:
    """Runs a bundle on what was answered; `offer` is called from the event loop and never waits.

    Args:
        path: of the bundle on trial.

    Attributes:
        pid: of its process; 0 = it has none yet.
        counts: of all windows so far.
        dropped: windows that found the queue full.
        problem: why it has ended; "" = it has not.
    """

    def __init__(self, path: Path, settings: Settings) -> None:
        self._path, self._settings = path, settings
        self._queue: queue.SimpleQueue[Scored | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._runs = self._bytes = self.pid = 0
        self.counts, self._unwritten = Counts(), Counts()
        self.dropped, self.problem, self._is_wanted = 0, "", True
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._run, name="edgesparse-shadow", daemon=True)
        self._thread.start()

    @property
    def queued(self) -> int:
        """Model runs that wait."""
        return self._runs

    def offer(self, scored: Scored) -> None:
        """Take the windows of a run, or count them as dropped."""
        size = sum(map(_held, scored.windows))
        with self._lock:
            is_full = self._runs >= MOST_RUNS or self._bytes + size > MOST_BYTES
            if is_full or self.problem or not self._is_wanted:
                self.dropped += sum(map(len, scored.windows))
                return
            self._runs += 1
            self._bytes += size
        self._queue.put(scored)

    def take(self) -> Counts:
        """What is new since the last call."""
        with self._lock:
            found, self._unwritten = self._unwritten, Counts()
        return found

    def stop(self) -> None:
        """End the process; what waits is left out."""
        with self._lock:
            self._is_wanted = False
            process = self._process
        self._queue.put(None)
        if process is not None:
            process.kill()
        self._thread.join(_END_SECONDS)

    def put_back(self, counts: Counts) -> None:
        """What was taken and could not be written."""
        with self._lock:
            self._unwritten.add(counts)

    def _run(self) -> None:
        try:
            process = self._start()
        except OSError as error:
            self.problem = f"its process did not start: {error}"
            return
        if process is None:
            return
        problem = self._feed(process)
        if self._is_wanted:
            self.problem = problem
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            # What was not sent to a process that has ended.
            with contextlib.suppress(OSError):
                if stream is not None:
                    stream.close()

    def _start(self) -> subprocess.Popen[bytes] | None:
        """The process, at a low priority; None where it is no longer wanted."""
        settings = self._settings
        options = {"precision": settings.precision, "threads": settings.threads, "timeout": settings.timeout}
        request = json.dumps(
            {
                "path": str(self._path),
                "settings": options,
                "trusted_keys": [str(key) for key in settings.trusted_keys],
            }
        )
        paths = os.pathsep.join(p for p in sys.path if p)
        with self._lock:
            if not self._is_wanted:
                return None
            process = self._process = subprocess.Popen(
                [sys.executable, "-m", "edgesparse_runtime.serving.shadow.process", request],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=os.environ | {"PYTHONPATH": paths},
                # Ctrl-C is for the server, which ends its children.
                start_new_session=True,
            )
        _lower(process.pid)
        self.pid = process.pid
        return process

    def _feed(self, process: subprocess.Popen[bytes]) -> str:
        """Why it has ended."""
        assert process.stdin is not None and process.stdout is not None
        first = receive(process.stdout)
        if first is None:
            return _how(process, "loading it")
        if "broken" in first[0]:
            return f"it failed its rehearsal in a server: {first[0]['broken']}"
        while (scored := self._next(process)) is not None:
            windows, scores = np.concatenate(scored.windows), np.concatenate(scored.scores)
            try:
                head = {"seconds": scored.seconds, "waited": scored.waited}
                send(process.stdin, head, [windows, scores])
                answer = receive(process.stdout)
            except OSError:
                answer = None
            with self._lock:
                self._runs -= 1
                self._bytes -= sum(map(_held, scored.windows))
                if answer is not None:
                    found = Counts(**answer[0])
                    self.counts.add(found)
                    self._unwritten.add(found)
            if answer is None:
                return _how(process, "a run")
        # Nobody wants it any more, or it has died without anything to do.
        return _how(process, "waiting") if process.poll() is not None else ""

    def _next(self, process: subprocess.Popen[bytes]) -> Scored | None:
        """What is to be run next; None = nothing ever."""
        while process.poll() is None:
            with contextlib.suppress(queue.Empty):
                return self._queue.get(timeout=_POLL_SECONDS)
        return None


def _held(window: FloatArray) -> int:
    """Bytes that are kept with an array, which may be a part of a larger one."""
    while isinstance(window.base, np.ndarray):
        window = window.base
    return window.nbytes


def _how(process: subprocess.Popen[bytes], what: str) -> str:
    """How a process ended that should not have."""
    try:
        code = process.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        return "its process in a server sent no answer"
    if code == -signal.SIGPROF:
        return f"{what} in a server took too long"
    return f"its process in a server crashed ({f'signal {-code}' if code < 0 else f'exit {code}'})"


def _lower(pid: int) -> None:
    """A low priority while it starts; it takes the lowest itself once the bundle is loaded."""
    if hasattr(os, "setpriority"):  # not on Windows
        # It has ended, or a container forbids it.
        with contextlib.suppress(OSError):
            own = os.getpriority(os.PRIO_PROCESS, 0)
            os.setpriority(os.PRIO_PROCESS, pid, min(_LOWEST, own + _START))
