"""`edgesparse inspect`: what is in a bundle, without running it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from edgesparse_runtime.bundle.manifest import manifest_schema
from edgesparse_runtime.bundle.manifest_types import Attention, BreakevenEntry, InputFacts, QuantizationReport
from edgesparse_runtime.bundle.read import Bundle, open_bundle
from edgesparse_runtime.cli.options import Request
from edgesparse_runtime.cli.output import print_fields, print_json, print_table
from edgesparse_runtime.data.column_names import with_unit
from edgesparse_runtime.errors import InputError
from edgesparse_runtime.evaluation.metrics import with_interval


@dataclass(frozen=True, kw_only=True)
class InspectRequest(Request):
    """Arguments and options of `edgesparse inspect`."""

    bundle: Annotated[Path | None, typer.Argument(help="Bundle.", show_default=False)] = None
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the JSON Schema that every bundle's manifest follows.")
    ] = False
    as_json: Annotated[bool, typer.Option("--json", help="Print the manifest as JSON.")] = False


def inspect(request: InspectRequest) -> None:
    """Show what is in a bundle; no model is loaded.

    Example: edgesparse inspect pump.edgesparse
    """
    bundle = request.bundle
    if request.schema:
        if bundle is not None:
            raise InputError(f"`--schema` is the same for every bundle. Leave out {bundle}.")
        print(json.dumps(manifest_schema(), indent=2))
        return
    if bundle is None:
        raise InputError("`edgesparse inspect` needs a bundle, or `--schema`.")
    opened = open_bundle(bundle)
    if request.as_json:
        print_json(
            "inspect",
            {
                "bundle": str(bundle),
                "form": "archive" if opened.is_archive else "folder",
                "signature": None if opened.signature is None else opened.signature.hex(),
                "manifest": opened.manifest,
            },
        )
        return
    print_fields(_fields(opened))
    print()
    entries = opened.manifest["files"].items()
    print_table(["file", "bytes", "sha256"], [[name, e["bytes"], e["sha256"][:16]] for name, e in entries])


def _fields(opened: Bundle) -> dict[str, object]:
    manifest = opened.manifest
    described = (with_unit(c["name"], c.get("unit")) for c in manifest["channels"])
    windows = manifest["input"]
    fields: dict[str, object] = {
        "name": opened.name,
        "task": opened.task,
        "channels": ", ".join(described),
        "classes": ", ".join(opened.classes) or "-",
        "windows": f"{_lengths(windows)} steps, at least {windows.get('min_steps', 1)}",
        "models": ", ".join(opened.precisions),
        "form": f"{'archive' if opened.is_archive else 'folder'}, schema version {_stored_version(opened)}",
        "made": f"{manifest['created']} by edgesparse {manifest['edgesparse']}",
        "signature": "none"
        if opened.signature is None
        else "present; `edgesparse verify --require-signature KEY` checks it",
    }
    if "parameters" in manifest:
        fields["weights"] = f"{manifest['parameters']:,}"
    if "training" in manifest:
        training = manifest["training"]
        fields["trained on"] = f"{training.get('series')} series of {training.get('source')}"
    if "attention" in manifest:
        fields["attention"] = _attention(manifest["attention"])
    if "compute" in manifest and manifest.get("attention", {}).get("mode") != "none":
        compute = manifest["compute"]
        fields["compute"] = (
            f"{compute['attention_share']:.1%} of dense attention, "
            f"{compute['model_share']:.1%} of the dense model"
        )
    if isinstance(manifest.get("budget"), (int, float)):
        fields["budget"] = f"{manifest['budget']:.0%} of dense attention's compute"
    for name, metric in manifest.get("metrics", {}).items():
        fields[f"{metric['name']}, {name}"] = with_interval(metric)
    if "int8" in manifest["models"]:
        fields["int8"] = _cost(manifest["models"]["int8"].get("report", {}))
    fields["dense twin"] = ", ".join(manifest["dense"]) or "none"
    fields["break-even"] = "; ".join(_breakeven(e) for e in manifest["breakeven"]) or "not measured"
    return fields


def _lengths(facts: InputFacts) -> str:
    """Of the training windows."""
    shortest, longest = facts.get("shortest"), facts.get("longest")
    if shortest is None:
        return "an unstated number of"
    return f"{shortest}" if shortest == longest else f"{shortest} to {longest}"


def _attention(attention: Attention) -> str:
    if attention["mode"] == "none":
        return "none: fixed features and a linear map"
    if attention["mode"] != "sparse":
        return "dense"
    return (
        f"{attention['mode']}, {len(attention['layers'])} layers, {attention['num_heads']} heads, "
        f"blocks of {attention['block_size']} tokens"
    )


def _cost(report: QuantizationReport) -> str:
    """What int8 changed on the series given to `edgesparse quantize`."""
    before, after, flipped = report.get("metric"), report.get("int8"), report.get("flipped")
    found = []
    if before is not None and after is not None:
        drop = "" if report.get("drop") is None else f", drop {report['drop']:.4f}"
        found.append(f"{before['name']} {before['value']:.4f} -> {after['value']:.4f}{drop} (n={after['n']})")
    if flipped is not None:
        found.append(
            f"{round(flipped['value'] * flipped['n'])} of {flipped['n']} decisions flipped "
            f"[{flipped['low']:.1%}, {flipped['high']:.1%}]"
        )
    return "; ".join(found) or "not measured: quantized without --data"


def _breakeven(entry: BreakevenEntry) -> str:
    """One measurement."""
    steps = [row["steps"] for row in entry.get("dense_up_to", []) if row["density"] is None]
    limit = f"dense up to {steps[0]} steps" if steps and steps[0] else "sparse always"
    return f"{entry.get('precision')}, {entry.get('threads')} thread(s) of {entry.get('cpu')}: {limit}"


def _stored_version(opened: Bundle) -> object:
    return json.loads(opened.manifest_bytes)["schema_version"]
