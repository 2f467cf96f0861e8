"""`edgesparse inspect`: what is in a bundle, without running it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgesparse_runtime.bundle import open_bundle
from edgesparse_runtime.cli.output import print_fields, print_json, print_table


def inspect(
    bundle: Annotated[Path, typer.Argument(help="Bundle to look into.", show_default=False)],
    as_json: Annotated[bool, typer.Option("--json", help="Print the manifest as JSON.")] = False,
) -> None:
    """Say what is in a bundle; no model is loaded.

    Example: edgesparse inspect pump.edgesparse
    """
    opened = open_bundle(bundle)
    manifest = opened.manifest
    if as_json:
        print_json("inspect", {"bundle": str(bundle), "manifest": manifest})
        return
    fields: dict[str, object] = {
        "name": opened.name,
        "task": opened.task,
        "channels": ", ".join(opened.channels),
        "classes": ", ".join(opened.classes) or "-",
        "windows": f"{manifest['input'].get('shortest')} to {manifest['input'].get('longest')} steps",
        "models": ", ".join(opened.precisions),
        "made": f"{manifest['created']} by edgesparse {manifest['edgesparse']}",
    }
    if "attention" in manifest:
        attention = manifest["attention"]
        fields["attention"] = (
            f"{attention['mode']}, {len(attention['layers'])} layers, {attention['num_heads']} heads, "
            f"blocks of {attention['block_size']} tokens"
            if attention["mode"] == "sparse"
            else "dense"
        )
    if "compute" in manifest:
        compute = manifest["compute"]
        fields["compute"] = (
            f"{compute['attention_share']:.1%} of dense attention, "
            f"{compute['model_share']:.1%} of the dense model"
        )
    for name, metric in manifest.get("metrics", {}).items():
        fields[f"{metric['name']}, {name}"] = (
            f"{metric['value']:.3f} [{metric['low']:.3f}, {metric['high']:.3f}] (n={metric['n']})"
        )
    print_fields(fields)
    print()
    rows = [[name, entry["bytes"], entry["sha256"][:16]] for name, entry in manifest["files"].items()]
    print_table(["file", "bytes", "sha256"], rows)
