"""`edgesparse quickstart`: the whole job on real data."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from edgesparse_runtime.cli.openmp import wait_briefly
from edgesparse_runtime.cli.options import Epochs, Request
from edgesparse_runtime.cli.output import note, print_json, print_table
from edgesparse_runtime.cli.require import require
from edgesparse_runtime.errors import InputError

# Written into the folder at the start.
BEGUN = ".edgesparse-quickstart"
NEXT = """\
On your own data (one row per time step, as in {out}/appliance_TRAIN.csv):
  edgesparse train pump_TRAIN.csv -o runs/pump
  edgesparse export runs/pump -o pump.edgesparse --data pump_TRAIN.csv
  edgesparse quantize pump.edgesparse --data pump_TRAIN.csv
  edgesparse evaluate pump.edgesparse pump_TEST.csv"""


@dataclass(frozen=True, kw_only=True)
class QuickstartRequest(Request):
    """Options of `edgesparse quickstart`."""

    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write.")] = Path("quickstart")
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier quickstart.")] = False
    epochs: Epochs = None
    seconds: Annotated[float, typer.Option(help="Seconds to measure each model.")] = 2.0
    seed: Annotated[int, typer.Option(help="Seed of all random numbers.")] = 0


def quickstart(request: QuickstartRequest) -> None:
    """Train, export, quantize, verify and time three models on 100 labeled series, in about three minutes.

    Example: edgesparse quickstart -o quickstart
    """
    require("quickstart", "all", "torch", "onnx", "onnxscript", "safetensors", "yaml", "sktime")
    wait_briefly()
    out = request.out
    mark = out / "quickstart.json"
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file; `--out` must be a folder.")
    if out.is_dir() and any(out.iterdir()):
        if not request.overwrite:
            raise InputError(f"{out} is not empty. Add --overwrite or choose another folder.")
        begun = out / BEGUN
        if not (begun.exists() or mark.exists() or (out / "runs").is_dir()):
            raise InputError(f"{out} was not made by quickstart. Remove it, or choose another folder.")
        shutil.rmtree(out)
    # First of all: what an interrupted run leaves behind can be told from other folders.
    out.mkdir(parents=True, exist_ok=True)
    (out / BEGUN).touch()
    # Takes seconds to load: only once the folder is known to be usable.
    from edgesparse_export.quickstart import run_quickstart

    result = run_quickstart(out, epochs=request.epochs, seconds=request.seconds, seed=request.seed, note=note)
    if request.as_json:
        print_json("quickstart", result)
    else:
        _print(result, mark)


def _print(result: dict[str, Any], mark: Path) -> None:
    environment = result["environment"]
    rows = []
    for row in result["rows"]:
        a, p = row["accuracy"], row["profile"]
        rows.append(
            [
                row["model"],
                f"{a['value']:.2f} [{a['low']:.2f}, {a['high']:.2f}]",
                a["n"],
                _share(row["attention_share"]),
                _share(row["model_share"]),
                f"{p['p50']:.2f}",
                f"{p['p99']:.2f}",
                f"{p['memory_peak'] - p['memory_before']:.0f}",
                f"{row['bytes'] / 1024:.0f}",
            ]
        )
    header = [
        "ACSF1",
        "accuracy [95 %]",
        "n",
        "attention",
        "model",
        "p50 ms",
        "p99 ms",
        "memory MB",
        "file kB",
    ]
    print_table(header, rows)
    engine = result["rows"][-1]["profile"]["engine"]
    ratio = result["dense_over_sparse"]
    print(
        f"\nattention, model: compute as a share of the dense model's. p50, p99: one window of 1,460 steps, "
        f"one thread, {environment['cpu']}.\n"
        f"memory: peak above the bare runner. Engine of sparse attention: {engine}."
    )
    print(
        f"Interleaved, sparse {ratio['precision']} runs {ratio['ratio']:.2f}x as fast as dense float32 "
        f"[{ratio['low']:.2f}, {ratio['high']:.2f}]."
    )
    print(f"\n{result['seconds']:.0f} s in total; results as JSON: {mark}\n\n{NEXT.format(out=mark.parent)}")


def _share(share: float | None) -> str:
    return "-" if share is None else f"{share:.0%}"
