"""Runs `edgesparse ARGUMENTS` in forks of one process that has imported the packages: no import per command.

A fork has its own arguments, folder, descriptors and exit code, as a command started by a shell has. What a
test measures of a process itself (imports, signals, environment) needs a process of its own: see `start`.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from functools import cache
from typing import Any

from tests.support.paths import ROOT, source_environment

_MOST_BYTES = 1 << 20


class ForkServer:
    """The client's side."""

    def __init__(self) -> None:
        self._socket, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with other:
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(other.fileno())],
                env=source_environment(OMP_NUM_THREADS="1"),
                cwd=ROOT,
                pass_fds=[other.fileno()],
                stdin=subprocess.DEVNULL,
            )
        self._lock = threading.Lock()
        atexit.register(self.end)

    def run(self, arguments: list[str], cwd: str, text: str | None) -> subprocess.CompletedProcess[str]:
        """Run a command to its end with `text` as its standard input; None = no input."""
        with self._lock, contextlib.ExitStack() as stack:
            ends = [os.pipe() for _ in range(3)]
            files = [stack.enter_context(os.fdopen(r, "rb")) for r, _ in ends[1:]]
            source = stack.enter_context(os.fdopen(ends[0][1], "wb"))
            theirs = [ends[0][0], ends[1][1], ends[2][1]]
            request = json.dumps({"arguments": arguments, "cwd": cwd, "umask": _umask()})
            socket.send_fds(self._socket, [request.encode()], theirs)
            for descriptor in theirs:
                os.close(descriptor)
            found = [b"", b""]

            def read(index: int) -> None:
                found[index] = files[index].read()

            threads = [threading.Thread(target=read, args=(index,)) for index in range(2)]
            for thread in threads:
                thread.start()
            with contextlib.suppress(BrokenPipeError):
                source.write((text or "").encode())
                source.close()
            for thread in threads:
                thread.join()
            code = int(self._socket.recv(100))
        return subprocess.CompletedProcess(arguments, code, *map(_text, found))

    def end(self) -> None:
        """The server ends when its socket closes."""
        self._socket.close()
        self._process.wait()


@cache
def fork_server() -> ForkServer:
    """The one server of this process."""
    return ForkServer()


def _text(data: bytes) -> str:
    """As `subprocess` gives it with `text=True`."""
    return data.decode().replace("\r\n", "\n").replace("\r", "\n")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def serve(connection: socket.socket) -> None:
    """Fork a child for each request, and answer its exit code."""
    while True:
        data, descriptors, _, _ = socket.recv_fds(connection, _MOST_BYTES, 3)
        if not data:
            return
        child = os.fork()
        if child == 0:
            connection.close()
            _become(json.loads(data), descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
        _, status = os.waitpid(child, 0)
        connection.send(str(os.waitstatus_to_exitcode(status)).encode())


def _become(request: dict[str, Any], descriptors: list[int]) -> None:
    """Be the command; never returns."""
    code = 1
    try:
        for target, descriptor in enumerate(descriptors):
            os.dup2(descriptor, target)
            os.close(descriptor)
        # New objects: those of the server know what its own descriptors were.
        sys.stdin, sys.stdout = open(0), open(1, "w")  # noqa: SIM115
        sys.stderr = open(2, "w", buffering=1, errors="backslashreplace")  # noqa: SIM115
        os.chdir(request["cwd"])
        os.umask(request["umask"])
        signal.signal(signal.SIGINT, signal.default_int_handler)
        sys.argv = ["edgesparse", *request["arguments"]]
        from edgesparse_runtime.cli import main

        try:
            main()
            code = 0
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else int(error.code is not None)
        except BaseException:
            sys.excepthook(*sys.exc_info())
        for thread in threading.enumerate():
            if not thread.daemon and thread is not threading.current_thread():
                thread.join()
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def _import_packages() -> None:
    for name in (
        "edgesparse.training.train",
        "edgesparse_export.quantize.bundle",
        "edgesparse_export.run_bundle",
        "edgesparse_runtime.cli.app",
    ):
        importlib.import_module(name)


if __name__ == "__main__":
    _import_packages()
    serve(socket.socket(fileno=int(sys.argv[1])))
