"""`edgesparse export`: a run folder to a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgesparse_runtime.cli.output import print_fields, print_json
from edgesparse_runtime.cli.require import require
from edgesparse_runtime.readers import read_dataset


def export(
    run: Annotated[Path, typer.Argument(help="Run folder of `edgesparse train`.", show_default=False)],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Bundle to write, NAME.edgesparse.", show_default=False)
    ],
    data: Annotated[
        Path | None, typer.Option(help="Real series to prove parity on and to keep as golden vectors.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Export a trained run to ONNX and a bundle, with a parity verdict; exit 3 when it does not hold.

    Example: edgesparse export runs/pump -o pump.edgesparse --data pump_TRAIN.csv
    """
    require("export", "export", "torch", "onnx", "onnxscript", "safetensors", "yaml")
    from edgesparse.run_folder import load_run
    from edgesparse_export.exporter import export_run

    trained = load_run(run)
    series = None if data is None else read_dataset(data)
    bundle, verdict = export_run(trained, out, data=series)
    size = sum(entry["bytes"] for entry in bundle.manifest["files"].values())
    if as_json:
        print_json("export", {"bundle": str(bundle.path), "bytes": size, "parity": verdict.to_dict()})
        return
    agreement = verdict.selection_agreement
    print_fields(
        {
            "bundle": f"{bundle.path} ({size / 1024:.0f} kB)",
            "parity": f"holds on {verdict.windows} windows: largest score difference "
            f"{verdict.largest_difference:.1e}, {verdict.decisions_flipped} decisions flipped"
            + ("" if agreement is None else f", block choices equal {agreement:.2%}"),
            "next": f"edgesparse quantize {bundle.path} --data TRAINING_DATA",
        }
    )
