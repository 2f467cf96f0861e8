"""`edgesparse pack` and `unpack`: a bundle as one file, and as a folder again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgesparse_runtime.bundle import SUFFIX, all_files, open_bundle, store_files
from edgesparse_runtime.cli.output import print_fields, print_json
from edgesparse_runtime.errors import InputError


def pack(
    bundle: Annotated[Path, typer.Argument(help="Bundle, a folder.", show_default=False)],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Archive to write, NAME.edgesparse.", show_default=False)
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Write a bundle as one file, which every verb opens as it is; same content, same bytes.

    Example: edgesparse pack pump.edgesparse -o release/pump.edgesparse
    """
    _convert("pack", bundle, out, archive=True, as_json=as_json)


def unpack(
    bundle: Annotated[Path, typer.Argument(help="Bundle, an archive.", show_default=False)],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder to write, NAME.edgesparse.", show_default=False)
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Write an archive as a folder.

    Example: edgesparse unpack release/pump.edgesparse -o pump.edgesparse
    """
    _convert("unpack", bundle, out, archive=False, as_json=as_json)


def _convert(verb: str, bundle: Path, out: Path, *, archive: bool, as_json: bool) -> None:
    opened = open_bundle(bundle)
    if opened.is_archive == archive:
        form = "an archive" if archive else "a folder"
        raise InputError(f"{bundle} must not be {form} already. Copy it as it is.")
    if out.suffix != SUFFIX and out.is_dir():
        out = out / bundle.name
    written = store_files(out, all_files(opened), archive=archive)
    size = out.stat().st_size if archive else sum(e["bytes"] for e in written.manifest["files"].values())
    if as_json:
        print_json(verb, {"bundle": str(written.path), "bytes": size})
    else:
        print_fields({"bundle": f"{written.path} ({size / 1024:.0f} kB)"})
