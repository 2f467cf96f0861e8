"""`edgesparse sbom`: the bill of materials of a bundle, or of this installation."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from edgesparse_runtime.bundle.output_file import write_output
from edgesparse_runtime.bundle.read import open_bundle
from edgesparse_runtime.cli.options import Request
from edgesparse_runtime.cli.output import print_fields, print_json
from edgesparse_runtime.deploying.sbom import bundle_bom, installed_bom
from edgesparse_runtime.errors import InputError


@dataclass(frozen=True, kw_only=True)
class SbomRequest(Request):
    """Arguments and options of `edgesparse sbom`."""

    bundle: Annotated[Path | None, typer.Argument(help="Bundle. [this installation]", show_default=False)] = (
        None
    )
    out: Annotated[Path | None, typer.Option("--out", "-o", help="File to write. [stdout]")] = None
    license: Annotated[
        str, typer.Option(help="The model's license, an SPDX expression. [not stated]", show_default=False)
    ] = ""
    data: Annotated[
        Path | None, typer.Option(help="The training data: its files are listed with their hashes.")
    ] = None
    as_json: Annotated[bool, typer.Option("--json", help="With --out: print what was written as JSON.")] = (
        False
    )


def sbom(request: SbomRequest) -> None:
    """Write a bill of materials, CycloneDX JSON: model, files, data and packages with hashes and licenses.

    Example: edgesparse sbom pump.edgesparse --license Apache-2.0 -o pump.cdx.json
    """
    if request.bundle is None:
        if request.license or request.data is not None:
            raise InputError("`--license` and `--data` are of a bundle. Name one.")
        bom = installed_bom(datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"))
    else:
        bom = bundle_bom(open_bundle(request.bundle), license_of=request.license, data=request.data)
    text = json.dumps(bom, indent=2) + "\n"
    if request.out is None:
        print(text, end="")
        return
    write_output(request.out, text)
    fields = {
        "out": str(request.out),
        "of": bom["metadata"]["component"]["name"],
        "components": len(bom["components"]),
    }
    if request.as_json:
        print_json("sbom", fields)
    else:
        print_fields(fields)
