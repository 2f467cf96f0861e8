"""The checkout in which a proof runs: commands as a stranger would run them, and its version."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tests.support.paths import ROOT


def command(arguments: list[str], folder: Path, **changes: str) -> subprocess.CompletedProcess[str]:
    """Run a command as a stranger would: none of this process's Python settings."""
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV", "MAKEFLAGS")}
    return subprocess.run(
        arguments, cwd=folder, env=environment | changes, capture_output=True, text=True, check=False
    )


def commit_version() -> str:
    """The commit, marked when the working tree differs from it."""
    head = command(["git", "rev-parse", "HEAD"], ROOT).stdout.strip()
    changed = command(["git", "status", "--porcelain"], ROOT).stdout.strip()
    return head + ("+changes" if changed else "")


def sources_version(*paths: str) -> list[str]:
    """Changes with the tracked files at these paths and with nothing else; all files where none is named."""
    committed = command(["git", "ls-tree", "-r", "HEAD", "--", *paths], ROOT).stdout
    return [committed, command(["git", "diff", "HEAD", "--", *paths], ROOT).stdout]
