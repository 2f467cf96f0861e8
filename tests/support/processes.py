"""Python and the command line in a process of their own, as a user starts them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.support.fork_server import fork_server
from tests.support.paths import source_environment

CLI = (sys.executable, "-m", "edgesparse_runtime.cli")


def start(*command: object, env: dict[str, str] | None = None, **options: Any) -> subprocess.Popen[str]:
    """Start a command; it finds this checkout's packages, computes with one thread and obeys Ctrl-C.

    Args:
        env: variables that are added to the environment.
        options: of `subprocess.Popen`; stdout and stderr are pipes where they do not say otherwise.
    """
    return subprocess.Popen(
        [str(part) for part in command],
        env=source_environment(**{"OMP_NUM_THREADS": "1", **(env or {})}),
        text=True,
        # A shell starts background jobs with SIGINT ignored, and children inherit that.
        preexec_fn=_obey_interrupt,
        **{"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options},
    )


def run(
    *command: object, text: str | None = None, timeout: float | None = None, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, with `text` as its standard input; options as for `start`."""
    given = {} if text is None else {"stdin": subprocess.PIPE}
    with start(*command, **{**given, **options}) as process:
        try:
            out, err = process.communicate(text, timeout=timeout)
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def run_python(code: str, *arguments: object, prefix: tuple[str, ...] = (), **options: Any) -> str:
    """Run a program given as text; its standard output.

    Args:
        prefix: command and options in front of the interpreter.
    """
    done = run(*prefix, sys.executable, "-c", code, *arguments, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout


def edgesparse(
    *arguments: object, cwd: Path | None = None, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Run `edgesparse ARGUMENTS`; options as for `start`.

    Without options of its own the command is a fork of a process that has imported everything.
    """
    if set(options) <= {"text"} and hasattr(os, "fork"):
        words = [str(part) for part in arguments]
        return fork_server().run(words, str(cwd or Path.cwd()), options.get("text"))
    return run(*CLI, *arguments, cwd=cwd, **options)


def check_one_line(result: subprocess.CompletedProcess[str], code: int, message: str) -> None:
    """The command failed with `code` and one line that holds `message`, and printed nothing else."""
    assert result.returncode == code, result.stderr
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    assert message in lines[0]
    assert lines[0].startswith("edgesparse: error: ")
    assert result.stdout == ""


def _obey_interrupt() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
