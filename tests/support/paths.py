"""Where the repository lies, and an environment in which a new process finds its packages."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCES = os.pathsep.join(str(ROOT / part) for part in ("", "export", "runtime"))
"""`PYTHONPATH` for a process that imports the packages, tests and benchmarks from this checkout."""


def source_environment(**variables: str) -> dict[str, str]:
    """This process's environment with the checkout's packages on the path, and `variables` on top."""
    return {**os.environ, "PYTHONPATH": SOURCES, **variables}
