"""`edgesparse export`: a run folder, or somebody else's trained model, to a bundle."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import Annotated

import typer

from edgesparse_runtime.cli.output import note, print_fields, print_json
from edgesparse_runtime.cli.require import require
from edgesparse_runtime.data.readers import read_dataset
from edgesparse_runtime.errors import InputError


def export(
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Bundle to write, NAME.edgesparse.", show_default=False)
    ],
    run: Annotated[
        Path | None, typer.Argument(help="Run folder of `edgesparse train`.", show_default=False)
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Real series to prove parity on and to keep as golden vectors.")
    ] = None,
    hf: Annotated[
        Path | None, typer.Option(help="Hugging Face model folder, in place of a run folder.")
    ] = None,
    calibrate: Annotated[
        Path | None,
        typer.Option(help="With --hf: unlabeled text (a document a line) or .npz of the model's inputs."),
    ] = None,
    density: Annotated[
        float | None, typer.Option(help="With --hf: share of query-key pairs to attend to.")
    ] = None,
    fidelity: Annotated[
        float | None, typer.Option(help="With --hf: least cosine to the dense model's output.")
    ] = None,
    block_size: Annotated[int, typer.Option(help="With --hf: tokens a block.")] = 32,
    tokens: Annotated[int, typer.Option(help="With --hf: text is cut to so many tokens.")] = 512,
    batch: Annotated[int, typer.Option(help="With --hf: rows a calibration batch.")] = 4,
    distill: Annotated[
        int, typer.Option(help="With --hf: steps in which the weights adapt to sparse attention.")
    ] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Export a trained run, or a trained Hugging Face model, with a parity verdict; exit 3 when it fails.

    Example: edgesparse export runs/pump -o pump.edgesparse --data pump_TRAIN.csv

    Example: edgesparse export --hf models/minilm --calibrate pages.txt --density 0.25 -o minilm.edgesparse
    """
    if (run is None) == (hf is None):
        raise InputError("`edgesparse export` must be given a run folder or `--hf FOLDER`, one of them.")
    if hf is not None:
        _export_hf(hf, calibrate, out, density, fidelity, block_size, tokens, batch, distill, as_json=as_json)
        return
    given = {"--calibrate": calibrate, "--density": density, "--fidelity": fidelity}
    extra = next((name for name, value in given.items() if value is not None), None)
    if extra:
        raise InputError(f"`{extra}` must go with `--hf`; a run was calibrated when it was trained.")
    require("export", "export", "torch", "onnx", "onnxscript", "safetensors", "yaml")
    from edgesparse.training.run_folder import load_run
    from edgesparse_export.run_bundle import export_run

    assert run is not None
    trained = load_run(run)
    series = None if data is None else read_dataset(data)
    bundle, verdict = export_run(trained, out, data=series)
    size = sum(entry["bytes"] for entry in bundle.manifest["files"].values())
    if as_json:
        print_json("export", {"bundle": str(bundle.path), "bytes": size, "parity": verdict.to_dict()})
        return
    agreement = verdict.selection_overlap
    print_fields(
        {
            "bundle": f"{bundle.path} ({size / 1024:.0f} kB)",
            "parity": f"holds on {verdict.windows} windows: largest score difference "
            f"{verdict.largest_difference:.1e}, {verdict.decisions_flipped} decisions flipped"
            + ("" if agreement is None else f", block choices equal {agreement:.2%}"),
            "next": f"edgesparse quantize {quote(str(bundle.path))} --data TRAINING_DATA",
        }
    )


def _export_hf(
    folder: Path,
    data: Path | None,
    out: Path,
    density: float | None,
    fidelity: float | None,
    block_size: int,
    tokens: int,
    batch: int,
    distill: int,
    *,
    as_json: bool,
) -> None:
    require("export --hf", "dropin,export", "torch", "onnx", "onnxscript", "safetensors", "transformers")
    if data is None:
        raise InputError("`--hf` must go with `--calibrate FILE`: density is met on data, text or .npz.")
    from edgesparse_export.dropin.huggingface_folder import export_folder

    made = export_folder(
        folder,
        data,
        out,
        density=density,
        fidelity=fidelity,
        block_size=block_size,
        tokens=tokens,
        batch_size=batch,
        distill_steps=distill,
        say=note,
    )
    found, verdict = made.calibration, made.parity
    size = sum(entry["bytes"] for entry in made.bundle.manifest["files"].values())
    if as_json:
        report = {"bundle": str(made.bundle.path), "bytes": size, "parity": verdict.to_dict()}
        print_json("export", {**report, "calibration": found.to_dict()})
        return
    held_out = f"on {found.held_out} held-out batches" if found.held_out else "on the batch it learned from"
    print_fields(
        {
            "bundle": f"{made.bundle.path} ({size / 1024:.0f} kB)",
            "density": f"{found.density:.1%} of query-key pairs {held_out}",
            "fidelity": f"cosine {found.cosine:.4f} to the dense model, the same",
            "parity": f"holds on {verdict.windows} rows: largest difference "
            f"{verdict.largest_difference:.1e}, block choices equal {verdict.selection_overlap or 1:.2%}",
            "next": f"edgesparse quantize {quote(str(made.bundle.path))}",
        }
    )
