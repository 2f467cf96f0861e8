"""What runs on the remote machine, sent as text: needs Python alone, keeps to one folder, and removes it.

It unpacks what arrives on stdin, answers one JSON line per request line, and ends when stdin does: so a lost
connection also ends the measurement and clears the folder. A second process, the sweeper, does the same when
this one is ended in any other way, SIGKILL included.
"""

import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import zipfile

_pending = b""


def _read_line() -> bytes:
    global _pending
    while b"\n" not in _pending:
        more = os.read(0, 1 << 16)
        if not more:
            return b""
        _pending += more
    line, _pending = _pending.split(b"\n", 1)
    return line


def _receive(size: int, path: str) -> None:
    global _pending
    with open(path, "wb") as stream:
        left = size
        while left:
            part = _pending[:left] or os.read(0, min(left, 1 << 20))
            _pending = _pending[len(part) :] if _pending else b""
            if not part:
                raise EOFError("the connection ended")
            stream.write(part)
            left -= len(part)


def _answer(content: object) -> None:
    sys.stdout.write(json.dumps(content) + "\n")
    sys.stdout.flush()


def _start_sweeper(folder: str) -> int:
    """A process that ends what was started and removes the folder as soon as this process is gone.

    Returns:
        A descriptor that tells it the process group of each measurement; it closes with this process.
    """
    lifeline, tell = os.pipe()
    if os.fork():
        os.close(lifeline)
        return tell
    # A session of its own: signals for this connection are not for it, and it must not hold the connection.
    os.setsid()
    os.close(tell)
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)
    told = b""
    while True:
        more = os.read(lifeline, 1 << 12)
        if not more:
            break
        told += more
    for group in told.split():
        _end_group(int(group))
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(0)


def _end_group(group: int) -> None:
    """End a measurement and whatever it started."""
    with contextlib.suppress(OSError):
        os.killpg(group, signal.SIGKILL)


def _run(folder: str, request: bytes, sweeper: int) -> None:
    environment = dict(os.environ, PYTHONPATH=os.path.join(folder, "site"), PYTHONDONTWRITEBYTECODE="1")
    child = subprocess.Popen(
        [sys.executable, "-m", "edgesparse_runtime.measure.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
        cwd=folder,
        start_new_session=True,
    )
    # The child is the first of its own group, and its number stays taken until it is waited for below.
    os.write(sweeper, b"%d\n" % child.pid)
    try:
        output = _read_output(child, request)
    finally:
        _end_group(child.pid)
        code = child.wait()
    _answer({"code": code, "output": output.decode("utf-8", "replace")})


def _read_output(child: subprocess.Popen[bytes], request: bytes) -> bytes:
    """Hand the request over and read the output to its end, as long as the connection is there."""
    assert child.stdin is not None and child.stdout is not None
    child.stdin.write(request)
    child.stdin.close()
    output = b""
    while True:
        # The next request comes only after this answer: what can be read from stdin now is its end.
        ready = select.select([child.stdout.fileno(), 0], [], [])[0]
        if 0 in ready:
            raise EOFError("the connection ended")
        part = os.read(child.stdout.fileno(), 1 << 16)
        if not part:
            child.wait()
            return output
        output += part


def _main() -> None:
    for number in (signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, lambda *_: sys.exit(1))
    header = json.loads(_read_line())
    folder = tempfile.mkdtemp(prefix="edgesparse-")
    sweeper = _start_sweeper(folder)
    try:
        payload = os.path.join(folder, "payload.zip")
        _receive(header["size"], payload)
        with zipfile.ZipFile(payload) as archive:
            archive.extractall(folder)
        os.remove(payload)
        wheels = os.path.join(folder, "wheels")
        if os.path.isdir(wheels):
            command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-compile"]
            command += ["--no-cache-dir", "--disable-pip-version-check", "--find-links", wheels]
            command += ["--target", os.path.join(folder, "site"), *header["install"]]
            done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
            if done.returncode:
                lines = done.stdout.decode("utf-8", "replace").strip().splitlines() or ["pip failed"]
                _answer({"problem": "the wheelhouse does not fit that machine: " + lines[-1]})
                return
        probe = "import numpy, onnxruntime, platform; print(platform.machine())"
        environment = dict(os.environ, PYTHONPATH=os.path.join(folder, "site"), ORT_DISABLE_TELEMETRY="1")
        done = subprocess.run(
            [sys.executable, "-c", probe], env=environment, capture_output=True, check=False
        )
        if done.returncode:
            problem = (
                "numpy and onnxruntime must be installed there. Give `--wheelhouse` to bring them along."
            )
            _answer({"problem": problem})
            return
        _answer({"folder": folder, "machine": done.stdout.decode().strip()})
        while True:
            request = _read_line()
            if not request:
                break
            _run(folder, request.replace(b"@FOLDER@", folder.encode()), sweeper)
    except EOFError:
        pass
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    if sys.version_info < (3, 11):  # noqa: UP036 - the far machine's Python may be any
        _answer({"problem": "Python must be 3.11 or newer there; it is " + sys.version.split()[0]})
    else:
        _main()
