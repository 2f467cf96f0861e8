"""`edgesparse export`: a run folder, or somebody else's trained model, to a bundle."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Annotated

import typer

from edgesparse_runtime.bundle.read import Bundle
from edgesparse_runtime.cli.options import BundleFile, SpecOptions
from edgesparse_runtime.cli.output import note, print_fields, print_json
from edgesparse_runtime.cli.preflight import note_data
from edgesparse_runtime.cli.require import require
from edgesparse_runtime.errors import InputError


@dataclass(frozen=True, kw_only=True)
class ExportRequest(SpecOptions):
    """Arguments and options of `edgesparse export`."""

    out: BundleFile
    run: Annotated[
        Path | None, typer.Argument(help="Run folder of `edgesparse train`.", show_default=False)
    ] = None
    data: Annotated[
        Path | None, typer.Option(help="Real series to prove parity on; some are kept as golden vectors.")
    ] = None
    hf: Annotated[Path | None, typer.Option(help="Hugging Face model folder instead of a run folder.")] = None
    calibrate: Annotated[
        Path | None,
        typer.Option(help="With --hf: unlabeled text (one document per line) or .npz of the model's inputs."),
    ] = None
    density: Annotated[
        float | None, typer.Option(help="With --hf: share of query-key pairs to attend to.")
    ] = None
    fidelity: Annotated[
        float | None, typer.Option(help="With --hf: minimum cosine to the dense model's output.")
    ] = None
    block_size: Annotated[int, typer.Option(help="With --hf: tokens per block.")] = 32
    tokens: Annotated[
        int | None,
        typer.Option(help="With --hf: truncate text to this many tokens. [512, or as the folder says]"),
    ] = None
    batch: Annotated[int, typer.Option(help="With --hf: rows per calibration batch.")] = 4
    distill: Annotated[
        int, typer.Option(help="With --hf: steps in which the weights adapt to sparse attention.")
    ] = 0
    with_dense: Annotated[
        bool, typer.Option("--with-dense", help="With --hf: add the dense model, to compare with.")
    ] = False


def export(request: ExportRequest) -> None:
    """Export a trained run, or a trained Hugging Face model, with a parity verdict; exit 3 when it fails.

    Example: edgesparse export runs/pump -o pump.edgesparse --data pump_TRAIN.csv

    Example: edgesparse export --hf models/minilm --calibrate pages.txt --density 0.25 -o minilm.edgesparse
    """
    if (request.run is None) == (request.hf is None):
        raise InputError("`edgesparse export` must be given either a run folder or `--hf FOLDER`.")
    if request.hf is not None:
        _export_hf(request.hf, request)
        return
    assert request.run is not None
    _export_run(request.run, request)


def _export_run(run: Path, request: ExportRequest) -> None:
    given = {
        "--calibrate": request.calibrate,
        "--density": request.density,
        "--fidelity": request.fidelity,
    }
    if extra := next((name for name, value in given.items() if value is not None), None):
        raise InputError(f"`{extra}` needs `--hf`; a run already has its density from training.")
    require("export", "export", "torch", "onnx", "onnxscript", "safetensors", "yaml")
    from edgesparse.training.run_folder import load_run
    from edgesparse_export.run_bundle import export_run, read_for_run

    trained = load_run(run)
    series = None
    if request.data is not None:
        series = read_for_run(request.data, trained, request.read_options(trained.task))
        note_data(series)
    bundle, verdict = export_run(trained, request.out, data=series)
    size = _size(bundle)
    if request.as_json:
        print_json("export", {"bundle": str(bundle.path), "bytes": size, "parity": verdict.to_dict()})
        return
    overlap = verdict.selection_overlap
    print_fields(
        {
            "bundle": f"{bundle.path} ({size / 1024:.0f} kB)",
            "parity": f"holds on {verdict.windows} windows: largest score difference "
            f"{verdict.largest_difference:.1e}, {verdict.decisions_flipped} decisions flipped"
            + ("" if overlap is None else f", selection overlap {overlap:.2%}"),
            "next": f"edgesparse quantize {quote(str(bundle.path))} --data TRAINING_DATA",
        }
    )


def _export_hf(folder: Path, request: ExportRequest) -> None:
    require("export --hf", "dropin,export", "torch", "onnx", "onnxscript", "safetensors", "transformers")
    if request.calibrate is None:
        raise InputError("`--hf` needs `--calibrate FILE` (text or .npz): density is measured on data.")
    from edgesparse_export.dropin.huggingface_folder import export_folder

    made = export_folder(
        folder,
        request.calibrate,
        request.out,
        density=request.density,
        fidelity=request.fidelity,
        block_size=request.block_size,
        tokens=request.tokens,
        batch_size=request.batch,
        distill_steps=request.distill,
        with_dense=request.with_dense,
        say=note,
    )
    found, verdict = made.calibration, made.parity
    size = _size(made.bundle)
    if request.as_json:
        report = {"bundle": str(made.bundle.path), "bytes": size, "parity": verdict.to_dict()}
        print_json("export", {**report, "calibration": found.to_dict()})
        return
    where = f"on {found.held_out} held-out batches" if found.held_out else "on the batch it was fitted to"
    print_fields(
        {
            "bundle": f"{made.bundle.path} ({size / 1024:.0f} kB)",
            "density": f"{found.density:.1%} of query-key pairs {where}",
            "fidelity": f"cosine {found.cosine:.4f} to the dense model's output {where}",
            "parity": f"holds on {verdict.windows} rows: largest difference "
            f"{verdict.largest_difference:.1e}, selection overlap {verdict.selection_overlap or 1:.2%}",
            "next": f"edgesparse run {quote(str(made.bundle.path))} PROMPTS.txt"
            if "generation" in made.bundle.manifest
            else f"edgesparse quantize {quote(str(made.bundle.path))}",
        }
    )


def _size(bundle: Bundle) -> int:
    return sum(int(entry["bytes"]) for entry in bundle.manifest["files"].values())
