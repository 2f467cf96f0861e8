"""`edgesparse wheelhouse`: wheels for a box without internet."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from edgesparse_runtime.cli.output import print_fields, print_json
from edgesparse_runtime.deploying.wheelhouse import gather


def wheelhouse(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to fill.", show_default=False)],
    platform: Annotated[str, typer.Option(help="linux_x86_64 or linux_aarch64.", show_default=False)],
    python: Annotated[str, typer.Option(help="Python version on the box.")] = "3.11",
    glibc: Annotated[int, typer.Option(help="glibc 2.N on the box (Debian 11: 31, 12: 36).")] = 28,
    command_line: Annotated[bool, typer.Option(help="The `edgesparse` command too.")] = True,
    runner: Annotated[
        Path | None, typer.Option(help="A wheel of ours built for the box; brings its native library.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Gather the wheels that a box without internet needs to run bundles.

    Example: edgesparse wheelhouse --platform linux_aarch64 -o wheels
    """
    found = gather(out, platform, python=python, glibc=glibc, command_line=command_line, runner=runner)
    if as_json:
        print_json("wheelhouse", asdict(found) | {"folder": str(found.folder)})
        return
    library = (
        "native library included"
        if found.native
        else f"no native library for {platform} here: models run as function body; --runner brings one"
    )
    print_fields(
        {
            "folder": f"{found.folder} ({len(found.wheels)} wheels)",
            "wheels": "\n        ".join(found.wheels),
            "runner": library,
            "install": found.install,
        }
    )
