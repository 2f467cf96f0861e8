"""`edgesparse pack` and `unpack`: a bundle as one file, and as a folder again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from edgesparse_runtime.bundle.names import SUFFIX
from edgesparse_runtime.bundle.read import Bundle, all_files, open_bundle
from edgesparse_runtime.bundle.write import check_target, store_files
from edgesparse_runtime.cli.options import Request
from edgesparse_runtime.cli.output import print_fields, print_json
from edgesparse_runtime.errors import BundleError, InputError


@dataclass(frozen=True, kw_only=True)
class _ConvertRequest(Request):
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace another bundle of that name.")] = (
        False
    )


@dataclass(frozen=True, kw_only=True)
class PackRequest(_ConvertRequest):
    """Arguments and options of `edgesparse pack`."""

    bundle: Annotated[Path, typer.Argument(help="Bundle, a folder.", show_default=False)]
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Archive to write, NAME.edgesparse.", show_default=False)
    ]


@dataclass(frozen=True, kw_only=True)
class UnpackRequest(_ConvertRequest):
    """Arguments and options of `edgesparse unpack`."""

    bundle: Annotated[Path, typer.Argument(help="Bundle, an archive.", show_default=False)]
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder to write, NAME.edgesparse.", show_default=False)
    ]


def pack(request: PackRequest) -> None:
    """Write a bundle as one file, which every verb opens directly; same content, same bytes.

    Example: edgesparse pack pump.edgesparse -o release/pump.edgesparse
    """
    _convert("pack", request, archive=True)


def unpack(request: UnpackRequest) -> None:
    """Write an archive as a folder.

    Example: edgesparse unpack release/pump.edgesparse -o pump.edgesparse
    """
    _convert("unpack", request, archive=False)


def _convert(verb: str, request: PackRequest | UnpackRequest, *, archive: bool) -> None:
    bundle, out = request.bundle, request.out
    opened = open_bundle(bundle)
    if opened.is_archive == archive:
        raise InputError(f"{bundle} is already {'an archive' if archive else 'a folder'}. Copy it instead.")
    if out.suffix != SUFFIX and out.is_dir():
        out = out / bundle.name
    check_target(out, archive=archive)
    if out.exists() and not request.overwrite and not _is_same(opened, out):
        raise InputError(f"{out} is another bundle. Add --overwrite to replace it, or choose another name.")
    written = store_files(out, all_files(opened), archive=archive)
    size = out.stat().st_size if archive else sum(e["bytes"] for e in written.manifest["files"].values())
    if request.as_json:
        print_json(verb, {"bundle": str(written.path), "bytes": size})
    else:
        print_fields({"bundle": f"{written.path} ({size / 1024:.0f} kB)"})


def _is_same(opened: Bundle, place: Path) -> bool:
    """True when writing `opened` to `place` loses nothing."""
    try:
        there = open_bundle(place)
    except BundleError:
        return False
    return (there.manifest_bytes, there.signature) == (opened.manifest_bytes, opened.signature)
