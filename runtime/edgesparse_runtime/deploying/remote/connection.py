"""Measure and verify on another machine over ssh: nothing is installed there, and nothing stays.

One connection carries the runner, the bundle and the requests; the remote side (`bootstrap`, sent as text)
keeps everything in one temporary folder and removes it when the connection ends, however it ends.
"""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import shutil
import subprocess
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any

from edgesparse_runtime.bundle.archive import pack_files
from edgesparse_runtime.bundle.manifest_types import BreakevenEntry
from edgesparse_runtime.bundle.names import SUFFIX
from edgesparse_runtime.bundle.read import all_files, open_bundle
from edgesparse_runtime.errors import EdgeSparseError, InputError
from edgesparse_runtime.measure.breakeven import BreakevenJob
from edgesparse_runtime.measure.job import Job
from edgesparse_runtime.measure.results import ProfileResult
from edgesparse_runtime.measure.worker import read_answer

# Further options for ssh, as on its command line: `-F /path/to/config -i key`.
OPTIONS_VARIABLE = "EDGESPARSE_SSH_OPTIONS"
_FORM = re.compile(r"ssh://(?:(?P<user>[\w.+-]+)@)?(?P<host>[\w.-]+|\[[0-9A-Fa-f:.]+\])(?::(?P<port>\d+))?/?")
_FOLDER = "@FOLDER@"


@dataclass(frozen=True)
class Target:
    """The remote machine: ssh://user@host:port; ~/.ssh/config holds the rest."""

    host: str
    user: str | None = None
    port: int | None = None
    python: str = "python3"

    @classmethod
    def parse(cls, address: str, python: str = "python3") -> Target:
        """Read an address.

        Raises:
            InputError: not of that form.
        """
        match = _FORM.fullmatch(address)
        if match is None or match["host"].startswith("-"):
            raise InputError(f"`--on` must be like ssh://user@host:22; got {address!r}.")
        port = None if match["port"] is None else int(match["port"])
        return cls(match["host"].strip("[]"), match["user"], port, python)

    def command(self, text: str) -> list[str]:
        """The local command that runs `text` in a shell there."""
        options = shlex.split(os.environ.get(OPTIONS_VARIABLE, ""))
        # No prompts: one that nobody sees would hang.
        options += ["-T", "-o", "BatchMode=yes"]
        if self.port is not None:
            options += ["-p", str(self.port)]
        if self.user is not None:
            options += ["-l", self.user]
        return ["ssh", *options, "--", self.host, text]


class Connection:
    """An open connection; `profile`, `verify` and `breakeven` are requests to the remote runner."""

    def __init__(self, process: subprocess.Popen[bytes], target: Target, model: str, folder: str) -> None:
        self._process, self._target, self._model = process, target, model
        self.folder = folder

    def profile(self, job: Job) -> ProfileResult:
        """One measurement; the same kind of result as `run_job` gives here.

        Raises:
            EdgeSparseError: it failed there, or the connection was lost.
        """
        data = None if job.data is None else f"{_FOLDER}/data/{Path(job.data).name}"
        there = replace(job, model=f"{_FOLDER}/{self._model}", data=data)
        result = ProfileResult.from_dict(self._ask(asdict(there)))
        return replace(result, profile=replace(result.profile, model=job.model))

    def verify(self, threads: int | None) -> list[dict[str, Any]]:
        """The checks of `verify` on the remote machine."""
        answer = self._ask({"verb": "verify", "model": f"{_FOLDER}/{self._model}", "threads": threads})
        checks: list[dict[str, Any]] = answer["checks"]
        return checks

    def breakeven(self, request: BreakevenJob) -> BreakevenEntry:
        """The entry that `measure_breakeven` makes on the remote machine."""
        data = None if request.data is None else f"{_FOLDER}/data/{Path(request.data).name}"
        there = asdict(replace(request, model=f"{_FOLDER}/{self._model}", data=data))
        entry: BreakevenEntry = self._ask({"verb": "breakeven", "request": there})["entry"]
        return entry

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise _lost(self._process, self._target) from None
        answer = _read(self._process, self._target)
        output = str(answer["output"]).replace(self.folder, "(there)")
        return read_answer(output, int(answer["code"]))


@contextmanager
def connect(
    target: Target, model: Path, *, data: Path | None = None, wheelhouse: Path | None = None
) -> Iterator[Connection]:
    """Carry the runner, `model` and `data` over, and clear all of it away at the end.

    Raises:
        InputError: there is no such model.
        EdgeSparseError: no connection, or that machine lacks what is needed.
    """
    if shutil.which("ssh") is None:
        raise EdgeSparseError("`--on` needs ssh on this machine. Install the OpenSSH client.")
    payload, name, install = _payload(model, data, wheelhouse)
    code = resources.files("edgesparse_runtime.deploying.remote").joinpath("bootstrap.py").read_text("utf-8")
    text = f"exec {shlex.quote(target.python)} -c {shlex.quote(code)}"
    process = subprocess.Popen(target.command(text), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    try:
        header = json.dumps({"size": len(payload), "install": install}).encode() + b"\n"
        try:
            process.stdin.write(header)
            process.stdin.write(payload)
            process.stdin.flush()
        except BrokenPipeError:
            pass  # The answer, or the lack of one, says why.
        hello = _read(process, target)
        yield Connection(process, target, name, str(hello["folder"]))
    finally:
        # The remote side clears up when its input ends; wait for that.
        with suppress(BrokenPipeError):
            process.stdin.close()
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        assert process.stdout is not None
        process.stdout.close()


def _read(process: subprocess.Popen[bytes], target: Target) -> dict[str, Any]:
    assert process.stdout is not None
    line = process.stdout.readline()
    try:
        answer: dict[str, Any] = json.loads(line)
    except ValueError:
        raise _lost(process, target) from None
    if "problem" in answer:
        error = EdgeSparseError(f"{target.host} cannot run this: {answer['problem']}")
        error.exit_code = 4
        raise error
    return answer


def _lost(process: subprocess.Popen[bytes], target: Target) -> EdgeSparseError:
    try:
        code = process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        code = 255
    if code == 127:
        return EdgeSparseError(
            f"`{target.python}` was not found on {target.host}. Name another with `--remote-python`."
        )
    return EdgeSparseError(
        f"ssh to {target.host} failed with code {code}; it must work without a prompt. "
        f"Try: {shlex.join(target.command('true'))}"
    )


def carried_files(data: Path | None) -> list[Path]:
    """A file, or the recordings of a folder."""
    if data is None or not data.is_dir():
        return [] if data is None else [data]
    return sorted(path for path in data.rglob("*") if path.is_file())


def _payload(model: Path, data: Path | None, wheelhouse: Path | None) -> tuple[bytes, str, list[str]]:
    """A zip file with `site/` (the runner), the model, the data and the wheels; the model's name in it."""
    if not model.exists():
        raise InputError(f"{model}: no such file or folder.")
    is_bundle = model.is_dir() or model.suffix == SUFFIX
    name = f"model{SUFFIX}" if is_bundle else "model.onnx"
    content = pack_files(all_files(open_bundle(model))) if is_bundle else model.read_bytes()
    wheels = [] if wheelhouse is None else sorted(wheelhouse.glob("*.whl"))
    if wheelhouse is not None and not wheels:
        raise InputError(f"{wheelhouse} must hold wheels; make it with `edgesparse wheelhouse`.")
    # With a runner among the wheels, that one is used: it may hold the library for that platform.
    brings_runner = any(wheel.name.startswith("edgesparse-") for wheel in wheels)
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr(name, content)
        for recording in carried_files(data):
            archive.write(recording, f"data/{recording.relative_to((data or recording).parent)}")
        for wheel in wheels:
            archive.write(wheel, f"wheels/{wheel.name}", zipfile.ZIP_STORED)
        if not brings_runner:
            for inner, file in runner_files():
                archive.writestr(f"site/edgesparse_runtime/{inner}", file)
    install = ["edgesparse"] if brings_runner else ["numpy", "onnxruntime"]
    return stream.getvalue(), name, install


def runner_files() -> Iterator[tuple[str, bytes]]:
    """The files of the runner as it is installed here: name in the package, content."""
    from edgesparse_runtime.engine import LIBRARY_NAME, get_library_path

    root = Path(__file__).resolve().parents[2]
    for path in sorted(root.rglob("*")):
        if path.is_file() and path.suffix not in (".pyc", ".so") and "__pycache__" not in path.parts:
            yield path.relative_to(root).as_posix(), path.read_bytes()
    # On another kind of processor it does not load, and the function body runs.
    if library := get_library_path():
        yield LIBRARY_NAME, Path(library).read_bytes()
