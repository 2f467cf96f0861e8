"""`edgesparse breakeven`: from which length on sparse attention pays on this machine."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from edgesparse_runtime.bundle.manifest_types import BreakevenEntry, BreakevenRow
from edgesparse_runtime.bundle.read import Bundle, open_bundle
from edgesparse_runtime.bundle.write import rewrite_bundle
from edgesparse_runtime.cli.options import Batch, RemoteOptions, Threads, Windows
from edgesparse_runtime.cli.output import note, print_json, print_table
from edgesparse_runtime.cli.preflight import note_threads
from edgesparse_runtime.dense_twin.lookup import MACHINE, describe_machine, hash_of, twin_file
from edgesparse_runtime.deploying.remote.connection import connect
from edgesparse_runtime.errors import InputError, MissingExtraError
from edgesparse_runtime.machine.progress import progress
from edgesparse_runtime.measure.breakeven import (
    BreakevenJob,
    cells,
    measure_breakeven,
)
from edgesparse_runtime.measure.partial_results import PartialResults
from edgesparse_runtime.session import Session

SIGN_AGAIN = "The bundle changed, so its signature no longer holds: sign it again."


@dataclass(frozen=True, kw_only=True)
class BreakevenRequest(RemoteOptions):
    """Arguments and options of `edgesparse breakeven`."""

    bundle: Annotated[Path, typer.Argument(help="Bundle of a sparse model.", show_default=False)]
    precision: Annotated[str, typer.Option(help="float32, int8 or all that the bundle holds.")] = "all"
    threads: Threads = None
    length: Annotated[
        str | None,
        typer.Option(help="Steps per window: 250,500,1000. [the longest window, 1/2, 1/4, 1/8 of it]"),
    ] = None
    density: Annotated[
        str, typer.Option(help="Shares of blocks to keep, besides the model as exported; '' = none.")
    ] = "0.125,0.25,0.5"
    batch: Batch = 1
    seconds: Annotated[float, typer.Option(help="Seconds to measure each length and density.")] = 2.0
    data: Windows = None
    prepare: Annotated[
        bool,
        typer.Option("--prepare", help="Only add the dense twins, for a box without the extra `export`."),
    ] = False

    def job(self, precision: str) -> BreakevenJob:
        """What to measure for one of the bundle's models."""
        return BreakevenJob(
            model=str(self.bundle),
            precision=precision,
            threads=self.threads,
            batch=self.batch,
            lengths=_numbers("length", self.length or "", int),
            densities=_numbers("density", self.density, float),
            seconds=self.seconds,
            data=None if self.data is None else str(self.data),
        )


def breakeven(request: BreakevenRequest) -> None:
    """Time sparse against dense attention over length and density, and store in the bundle where dense wins.

    On machines like this one the runner then uses the dense model for windows that short. Resumes if
    interrupted.

    Example: edgesparse breakeven pump.edgesparse --threads 1
    """
    target = request.target()
    if target is None:
        note_threads(request.threads)
    opened = open_bundle(request.bundle)
    precisions = _precisions(opened, request.precision)
    jobs = [request.job(precision) for precision in precisions]
    was_signed = opened.signature is not None
    opened = _with_twins(opened, precisions)
    if request.prepare:
        if was_signed and opened.signature is None:
            note(SIGN_AGAIN)
        _print_twins(request, {p: opened.manifest["dense"][p] for p in precisions})
        return
    kept = [_partial_results(opened, job) for job in jobs] if target is None else []
    if target is None:
        entries = [_measure_here(opened, job, rows) for job, rows in zip(jobs, kept, strict=True)]
    else:
        count = len(jobs) * len(cells(opened, jobs[0]))
        note(f"measuring on {request.on}: {count} cells of {request.seconds:g} s")
        with connect(target, request.bundle, data=request.data, wheelhouse=request.wheelhouse) as connection:
            entries = [connection.breakeven(job) for job in jobs]
    if was_signed:
        note(SIGN_AGAIN)
    _store(opened, entries)
    for rows in kept:
        rows.clear()
    if request.as_json:
        print_json("breakeven", {"bundle": str(request.bundle), "entries": entries})
        return
    for entry in entries:
        _print(entry)


def _print_twins(request: BreakevenRequest, added: dict[str, Any]) -> None:
    if request.as_json:
        print_json("breakeven", {"bundle": str(request.bundle), "dense": added, "entries": []})
    else:
        print(f"{request.bundle} has dense twins: {', '.join(twin['file'] for twin in added.values())}")


def _precisions(opened: Bundle, wanted: str) -> list[str]:
    if wanted not in ("all", "float32", "int8"):
        raise InputError(f"`--precision` must be float32, int8 or all; got {wanted}.")
    if opened.manifest.get("attention", {}).get("mode") != "sparse" or opened.manifest["input"].get(
        "tensors"
    ):
        raise InputError(f"{opened.path} holds no sparse model of windows, so there is nothing to switch.")
    if wanted != "all":
        opened.model_file(wanted)
        return [wanted]
    return list(opened.precisions)


def _with_twins(opened: Bundle, precisions: list[str]) -> Bundle:
    """The bundle with a dense twin per precision; making one needs the extra `export`."""
    if all(twin_file(opened.manifest, p) for p in precisions):
        return opened
    if any(importlib.util.find_spec(name) is None for name in ("onnx", "onnxscript", "torch")):
        what = f"`edgesparse breakeven`, unless `breakeven --prepare {opened.path}` ran elsewhere before,"
        raise MissingExtraError(what, "onnx", "export")
    from edgesparse_export.twin_bundle import add_twins

    return add_twins(opened, precisions)


def _measure_here(opened: Bundle, job: BreakevenJob, kept: PartialResults) -> BreakevenEntry:
    planned, done = cells(opened, job), kept.done
    left = sum(cell not in done for cell in planned)
    if left < len(planned):
        note(f"resuming: {len(planned) - left} of {len(planned)} cells are already measured")
    with progress(f"break-even, {job.precision}", len(planned), start=len(planned) - left) as shown:
        return measure_breakeven(job, shown, done=done, on_row=kept.add)


def _partial_results(opened: Bundle, job: BreakevenJob) -> PartialResults:
    session = Session(opened, precision=job.precision, threads=job.threads, attention="sparse")
    machine = describe_machine(session.threads, session.engine)
    return PartialResults(opened.path, machine | {"model": hash_of(opened.manifest, job.precision)}, job)


def _store(opened: Bundle, entries: list[BreakevenEntry]) -> None:
    """Store the entries in the bundle; they replace older ones of the same machine and precision."""
    new = [_place(entry) for entry in entries]
    older = [e for e in opened.manifest["breakeven"] if _place(e) not in new]
    rewrite_bundle(opened, {}, {"breakeven": older + entries})


def _place(entry: Mapping[str, Any]) -> list[Any]:
    return [entry.get(name) for name in (*MACHINE, "precision")]


def _numbers(name: str, text: str, kind: type[int] | type[float]) -> list[Any]:
    try:
        return [kind(part) for part in text.split(",")] if text else []
    except ValueError:
        raise InputError(f"`--{name}` must be numbers separated by commas; got {text!r}.") from None


def _print(entry: BreakevenEntry) -> None:
    rows = [
        [
            row["length"],
            "as exported" if row["density"] is None else f"{row['density']:.1%}",
            f"{row['kept']:.0%}",
            f"{row['sparse_ms']:.3f}",
            f"{row['dense_ms']:.3f}",
            f"{row['ratio']:.2f} [{row['low']:.2f}, {row['high']:.2f}]",
            row["winner"],
            _decisions(row),
        ]
        for row in entry["table"]
    ]
    print(
        f"{entry['precision']}, {entry['threads']} thread(s), {entry['batch']} window(s) per call, "
        f"{entry['engine']}, {entry['cpu']}, onnxruntime {entry['onnxruntime']}"
    )
    header = ["steps", "density", "kept", "sparse ms", "dense ms", "sparse/dense", "faster", "decisions"]
    print_table(header, rows)
    print(f"{entry['precision']}: {describe_limit(entry)}\n")


def _decisions(row: BreakevenRow) -> str:
    """How often sparse and dense decide the same; "" where dense does not win."""
    found = row["agreement"]
    if found is None:
        return ""
    equal = found["equal"]
    if equal is None:
        same = f"largest difference {found['largest_difference']:.2g}"
    else:
        same = f"{equal:.1%} equal"
    return f"{same} (n={found['n']})" + ("" if row["agrees"] else ": too different to switch")


def describe_limit(entry: BreakevenEntry) -> str:
    """What the runner does after this measurement."""
    steps = next((r["steps"] for r in entry["dense_up_to"] if r["density"] is None), 0)
    if steps:
        return f"dense up to {steps} steps, sparse beyond"
    return "sparse always"
