"""`edgesparse sbom`: bill of materials of a bundle or of this installation; the technical file around it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from edgesparse_runtime.bundle.output_file import write_output
from edgesparse_runtime.bundle.read import Bundle, open_bundle
from edgesparse_runtime.cli.options import Request
from edgesparse_runtime.cli.output import note, print_fields, print_json
from edgesparse_runtime.cli.preflight import check_not_an_input, check_output
from edgesparse_runtime.deploying.sbom import bundle_bom, installed_bom
from edgesparse_runtime.deploying.technical.entries import read_entries
from edgesparse_runtime.deploying.technical.facts import technical_facts
from edgesparse_runtime.deploying.technical.page import technical_page
from edgesparse_runtime.deploying.technical.reports import read_reports
from edgesparse_runtime.errors import GateError, InputError
from edgesparse_runtime.evaluation.verify import Check, verify

FORMS = (".html", ".json")


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
    technical_file: Annotated[
        list[Path] | None,
        typer.Option(
            help="Technical documentation of the Cyber Resilience Act (Annex VII), as far as it is known "
            "here: NAME.html or NAME.json; may be repeated."
        ),
    ] = None
    report: Annotated[
        list[Path] | None,
        typer.Option(
            help="With --technical-file: JSON of evaluate, report, poc, profile, verify or monitor to quote; "
            "may be repeated."
        ),
    ] = None
    entries: Annotated[
        Path | None,
        typer.Option(
            help="With --technical-file: the manufacturer's entries, a JSON object of texts by key."
        ),
    ] = None
    as_json: Annotated[
        bool, typer.Option("--json", help="With --out or --technical-file: print what was written as JSON.")
    ] = False


def sbom(request: SbomRequest) -> None:
    """Write a bill of materials, CycloneDX JSON: model, files, data and packages with hashes and licenses.

    With --technical-file also the page around it that the Cyber Resilience Act requires of manufacturers.
    Exit 3 when the bundle does not reproduce its recorded answers here.

    Example: edgesparse sbom pump.edgesparse --license Apache-2.0 -o pump.cdx.json

    Example: edgesparse sbom pump.edgesparse --technical-file pump.html --report evaluate.json
    """
    _check(request)
    bundle = None if request.bundle is None else open_bundle(request.bundle)
    if bundle is None:
        bom = installed_bom(_now())
    else:
        bom = bundle_bom(bundle, license_of=request.license, data=request.data)
    facts = None if bundle is None or not request.technical_file else _facts(request, bundle, bom)
    text = _text(bom)
    if request.out is None and facts is None:
        print(text, end="")
        return
    fields: dict[str, Any] = {
        "of": bom["metadata"]["component"]["name"],
        "components": len(bom["components"]),
    }
    if request.out is not None:
        write_output(request.out, text)
        fields = {"out": str(request.out), **fields}
    if facts is not None:
        fields |= _write(request.technical_file or [], facts)
    if request.as_json:
        print_json("sbom", fields)
    else:
        print_fields({k: ", ".join(map(str, v)) if isinstance(v, list) else v for k, v in fields.items()})
    if facts is not None and not facts["holds"]:
        raise GateError(
            f"{request.bundle} does not reproduce its recorded results on this machine; the technical file "
            "says where. Run `edgesparse verify`."
        )


def _check(request: SbomRequest) -> None:
    pages = request.technical_file or []
    if request.bundle is None:
        if request.license or request.data is not None:
            raise InputError("`--license` and `--data` are of a bundle. Name one.")
        if pages:
            raise InputError("`--technical-file` is of a bundle. Name one.")
    if not pages and (request.report or request.entries is not None):
        raise InputError(
            "`--report` and `--entries` are for a technical file. Add --technical-file NAME.html."
        )
    inputs = [p for p in (request.bundle, request.data, request.entries, *(request.report or [])) if p]
    for path in pages:
        if path.suffix not in FORMS:
            raise InputError(f"`--technical-file` must end in {' or '.join(FORMS)}; got {path.name}.")
        check_output(path, "--technical-file")
        others = [*inputs, *([] if request.out is None else [request.out])]
        check_not_an_input(path, others, "--technical-file")


def _facts(request: SbomRequest, bundle: Bundle, bom: dict[str, Any]) -> dict[str, Any]:
    bom_file = None
    if request.out is not None:
        bom_file = (request.out.name, hashlib.sha256(_text(bom).encode()).hexdigest())
    stated, reports = read_entries(request.entries), read_reports(request.report or [], bundle)
    checks = [Check("hashes", True, f"{len(bundle.manifest['files'])} files"), *verify(bundle)]
    return technical_facts(
        bundle, bom, checks, stated=stated, reports=reports, bom_file=bom_file, written=_now()
    )


def _write(paths: list[Path], facts: dict[str, Any]) -> dict[str, Any]:
    for path in paths:
        is_page = path.suffix == ".html"
        write_output(path, technical_page(facts) if is_page else json.dumps(facts, indent=2) + "\n")
        note(f"written: {path}")
    return {
        "technical_file": [str(path) for path in paths],
        "holds": facts["holds"],
        "filled_in": facts["entries"] - len(facts["open"]),
        "to_fill_in": facts["open"],
        "missing_reports": [row["kind"] for row in facts["missing_reports"]],
    }


def _text(bom: dict[str, Any]) -> str:
    return json.dumps(bom, indent=2) + "\n"


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
