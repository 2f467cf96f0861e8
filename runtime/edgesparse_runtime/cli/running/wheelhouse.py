"""`edgesparse wheelhouse`: wheels for a box without internet."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer

from edgesparse_runtime.cli.options import Request
from edgesparse_runtime.cli.output import print_fields, print_json
from edgesparse_runtime.deploying.wheelhouse import gather


@dataclass(frozen=True, kw_only=True)
class WheelhouseRequest(Request):
    """Options of `edgesparse wheelhouse`."""

    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to fill.", show_default=False)]
    platform: Annotated[str, typer.Option(help="linux_x86_64 or linux_aarch64.", show_default=False)]
    python: Annotated[str, typer.Option(help="Python version on the box.")] = "3.11"
    glibc: Annotated[int, typer.Option(help="glibc 2.N on the box (Debian 11: 31, 12: 36).")] = 28
    command_line: Annotated[bool, typer.Option(help="Include the `edgesparse` command.")] = True
    runner: Annotated[
        Path | None,
        typer.Option(help="EdgeSparse wheel built for the box; it includes the native library."),
    ] = None


def wheelhouse(request: WheelhouseRequest) -> None:
    """Gather the wheels that a box without internet needs to run bundles.

    Example: edgesparse wheelhouse --platform linux_aarch64 -o wheels
    """
    found = gather(
        request.out,
        request.platform,
        python=request.python,
        glibc=request.glibc,
        command_line=request.command_line,
        runner=request.runner,
    )
    if request.as_json:
        print_json("wheelhouse", asdict(found) | {"folder": str(found.folder)})
        return
    library = (
        "native library included"
        if found.native
        else f"no native library for {request.platform}: attention runs as the ONNX function body, slower; "
        "pass a wheel built for the box with --runner"
    )
    print_fields(
        {
            "folder": f"{found.folder} ({len(found.wheels)} wheels)",
            "wheels": "\n        ".join(found.wheels),
            "runner": library,
            "install": found.install,
        }
    )
