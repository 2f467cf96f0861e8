"""axe-core, which finds what keeps people from reading a page by keyboard or screen reader."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from benchmarks.support.settings import SCRATCH

AXE = "axe-core@4.14.1"


def find_axe() -> tuple[Path | None, str]:
    """axe-core's script, fetched once by npm; else why there is none."""
    folder = SCRATCH / "axe"
    script = folder / "package" / "axe.min.js"
    if script.exists():
        return script, ""
    if shutil.which("npm") is None:
        return None, "npm is not installed"
    folder.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(["npm", "pack", AXE, "--silent"], cwd=folder, capture_output=True, text=True)
    if done.returncode:
        return None, f"npm could not fetch {AXE}"
    shutil.unpack_archive(folder / done.stdout.split()[-1], folder, filter="data")
    return script, ""
