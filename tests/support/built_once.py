"""What takes seconds to build is built once per test run, by the worker that needs it first."""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest


class BuiltOnce:
    """Folders that all workers of one test run share.

    Args:
        config: of pytest; it tells a worker of several from a run in one process.
        base: this worker's folder for temporary files.
    """

    def __init__(self, config: pytest.Config, base: Path) -> None:
        self._place = base.parent if hasattr(config, "workerinput") else base

    def __call__(self, name: str, build: Callable[[Path], object]) -> Path:
        """The folder `name`, which `build` has filled; other workers wait until it has."""
        folder, is_done = self._place / name, self._place / f"{name}.done"
        with (self._place / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            try:
                if not is_done.exists():
                    # Another worker's attempt may have failed.
                    shutil.rmtree(folder, ignore_errors=True)
                    folder.mkdir()
                    build(folder)
                    is_done.touch()
            finally:
                # A process that was forked meanwhile holds the file open.
                fcntl.flock(lock, fcntl.LOCK_UN)
        return folder
