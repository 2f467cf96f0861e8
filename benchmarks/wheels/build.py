"""`make wheels`: the source distribution and every wheel that this machine can build, in dist/.

Prints and writes to dist/wheels.json name, tag, size and whether the kernels are inside. What cannot be built
here is listed with the reason.
"""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypedDict

from tests.support.kernels.build import MissingToolError
from tests.support.kernels.wheels import (
    MUSL_TARGETS,
    build_arm64,
    build_musl,
    build_native,
    build_pure,
    build_sdist,
    has_library,
)
from tests.support.paths import ROOT

DIST = ROOT / "dist"


class Entry(TypedDict):
    """One thing that is built, or why it is not."""

    what: str
    file: str
    tag: str
    bytes: int
    kernels: bool
    reason: str


BUILDS: dict[str, Callable[[Path], Path]] = {
    "source": build_sdist,
    "any machine": build_pure,
    "this machine": build_native,
    "AArch64": build_arm64,
    **{f"musl, {name}": lambda out, name=name: build_musl(out, name) for name in MUSL_TARGETS},  # type: ignore[misc]
}


def build_all(out: Path, names: Sequence[str] = tuple(BUILDS)) -> list[Entry]:
    """Builds what is named into `out` and returns the list, which is in wheels.json there too."""
    entries = []
    for name in names:
        if name == "AArch64" and platform.machine() == "aarch64":
            continue
        entries.append(build_one(name, out))
        entry = entries[-1]
        kernels = "with kernels" if entry["kernels"] else "without kernels"
        size = f"{entry['bytes'] / 1e6:.2f} MB"
        print(f"{name:16}{entry['file'] or entry['reason']}", *([size, kernels] if entry["file"] else []))
    (out / "wheels.json").write_text(json.dumps(entries, indent=2) + "\n", encoding="utf-8")
    return entries


def build_one(name: str, out: Path) -> Entry:
    """One of `BUILDS`; a missing tool is a reason and no error."""
    try:
        path = BUILDS[name](out)
    except MissingToolError as error:
        return Entry(what=name, file="", tag="", bytes=0, kernels=False, reason=str(error))
    is_wheel = path.suffix == ".whl"
    return Entry(
        what=name,
        file=path.name,
        tag=path.stem.split("-", 2)[2] if is_wheel else "",
        bytes=path.stat().st_size,
        kernels=is_wheel and has_library(path),
        reason="",
    )


if __name__ == "__main__":
    DIST.mkdir(exist_ok=True)
    build_all(DIST)
    sys.exit(0)
