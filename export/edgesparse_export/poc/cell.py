"""One cell: train, export, quantize, and measure on the test series."""

from __future__ import annotations

import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgesparse.config import RunConfig, resolve_config
from edgesparse.training.split import hold_out
from edgesparse.training.train import train
from edgesparse_export.poc.plan import RIVAL, Cell, overrides
from edgesparse_export.poc.rival import measure_rival
from edgesparse_export.quantize.bundle import NothingToQuantizeError, quantize_bundle
from edgesparse_export.run_bundle import export_run
from edgesparse_runtime.bundle.read import Bundle
from edgesparse_runtime.data.series_set import SeriesSet
from edgesparse_runtime.errors import EdgeSparseError, GateError
from edgesparse_runtime.measure.decision.answers import measure_answers
from edgesparse_runtime.session import Session

BUNDLES = "bundles"
# Of the training series' accuracy that int8 may cost: the test series take part in no choice.
MAX_DROP = 0.01


@dataclass(frozen=True)
class Workplace:
    """What cells are made from, and where their bundles go."""

    training: SeriesSet
    test: SeriesSet
    settings: tuple[str, ...]
    out: Path


def run_cell(cell: Cell, place: Workplace) -> dict[str, Any]:
    """Everything that is measured of a cell, as plain values; `failed` says why where it has no model."""
    start = time.monotonic()
    data = part_of(place.training, cell.share, cell.seed)
    facts = {"rung": cell.rung, "seed": cell.seed, "share": cell.share, "series": len(data)}
    try:
        found = measure_rival(data, place.test, cell.seed) if cell.rung == RIVAL else _ours(cell, data, place)
    except EdgeSparseError as error:
        found = {"failed": str(error)}
    except Exception as error:
        if cell.rung != RIVAL:
            raise
        # Of another package: what it does not take is no fault of the data.
        found = {"failed": f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"}
    return {**facts, **found, "seconds": time.monotonic() - start}


def part_of(data: SeriesSet, share: float, seed: int) -> SeriesSet:
    """A share of the series: whole groups where there are groups, else of every class."""
    return data if share == 1 else data.take(hold_out(data, 1 - share, seed=seed)[0])


def _ours(cell: Cell, data: SeriesSet, place: Workplace) -> dict[str, Any]:
    config = resolve_config(RunConfig(), None, overrides(cell.rung, cell.seed, place.settings))
    bundles = place.out / BUNDLES
    with tempfile.TemporaryDirectory() as folder:
        run = train(data, config, Path(folder) / "run", quiet=True)
        # Bundles of the learning curve are measured and not kept.
        path = (bundles if cell.share == 1 else Path(folder)) / f"{cell.name}.edgesparse"
        path.parent.mkdir(parents=True, exist_ok=True)
        bundle, parity = export_run(run, path, data=data)
        note = ""
        if cell.share == 1:
            bundle, note = _quantize(bundle, data)
        answers = {
            precision: measure_answers(Session(bundle, precision=precision, threads=1), place.test)
            for precision in bundle.precisions
        }
    files = bundle.manifest["files"]
    has_attention = bundle.manifest["attention"]["mode"] != "none"
    return {
        "answers": answers,
        "bundle": f"{BUNDLES}/{path.name}" if cell.share == 1 else None,
        "sha256": {p: files[bundle.model_file(p)]["sha256"] for p in bundle.precisions},
        "bytes": {p: files[bundle.model_file(p)]["bytes"] for p in bundle.precisions},
        "int8_note": note,
        "parameters": run.report["parameters"],
        "attention_share": run.report["compute"]["attention_share"] if has_attention else None,
        "model_share": run.report["compute"]["model_share"] if has_attention else None,
        "parity": parity.largest_difference,
    }


def _quantize(bundle: Bundle, data: SeriesSet) -> tuple[Bundle, str]:
    """The bundle with int8 where there is something to gain and the gate lets it in, else why not."""
    try:
        return quantize_bundle(bundle, data=data, max_drop=MAX_DROP)[0], ""
    except NothingToQuantizeError:
        return bundle, "no layer that int8 would make faster"
    except GateError as error:
        return bundle, str(error)


def remove_bundles(out: Path) -> None:
    """Delete what `run_cell` kept."""
    shutil.rmtree(out / BUNDLES, ignore_errors=True)
