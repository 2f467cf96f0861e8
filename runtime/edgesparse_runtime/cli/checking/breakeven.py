"""`edgesparse breakeven`: from which length on sparse attention pays on this machine."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from edgesparse_runtime.bundle.read import Bundle, open_bundle
from edgesparse_runtime.bundle.write import rewrite_bundle
from edgesparse_runtime.cli.output import note, print_json, print_table
from edgesparse_runtime.cli.preflight import check_remote, note_threads
from edgesparse_runtime.dense_switch import MACHINE, describe_machine, hash_of, twin_file
from edgesparse_runtime.errors import InputError, MissingExtraError
from edgesparse_runtime.measure.breakeven import BreakEvenRequest, cells, measure_breakeven
from edgesparse_runtime.measure.partial_results import KeptRows
from edgesparse_runtime.progress import progress
from edgesparse_runtime.remote.connection import Target, connect
from edgesparse_runtime.session import Session


def breakeven(
    bundle: Annotated[Path, typer.Argument(help="Bundle of a sparse model.", show_default=False)],
    precision: Annotated[str, typer.Option(help="float32, int8 or all that the bundle holds.")] = "all",
    threads: Annotated[int | None, typer.Option(help="Threads of one prediction. [all usable]")] = None,
    length: Annotated[
        str | None,
        typer.Option(help="Steps a window: 250,500,1000. [the longest window, 1/2, 1/4, 1/8 of it]"),
    ] = None,
    density: Annotated[
        str, typer.Option(help="Shares of blocks to keep, beside the model as exported; '' = none.")
    ] = "0.125,0.25,0.5",
    batch: Annotated[int, typer.Option(help="Windows a call.")] = 1,
    seconds: Annotated[float, typer.Option(help="How long to measure each length and density.")] = 2.0,
    data: Annotated[
        Path | None, typer.Option(help="Data file to take windows from. [the bundle's golden windows]")
    ] = None,
    prepare: Annotated[
        bool,
        typer.Option("--prepare", help="Only add the dense twins, for a box without the extra `export`."),
    ] = False,
    on: Annotated[
        str | None, typer.Option(help="Measure there: ssh://user@host:port; stored in the bundle here.")
    ] = None,
    remote_python: Annotated[str, typer.Option(help="Python to run there.")] = "python3",
    wheelhouse: Annotated[
        Path | None, typer.Option(help="Folder of `edgesparse wheelhouse` to take along.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Time sparse against dense attention over length and density, and store in the bundle where dense wins.

    On machines like this one the runner then takes the dense twin on windows so short. Interrupted, it goes
    on where it was.

    Example: edgesparse breakeven pump.edgesparse --threads 1
    """
    check_remote(on, wheelhouse, remote_python)
    if on is None:
        note_threads(threads)
    opened = open_bundle(bundle)
    precisions = _precisions(opened, precision)
    request = BreakEvenRequest(
        model=str(bundle),
        precision=precisions[0],
        threads=threads,
        batch=batch,
        lengths=_numbers("length", length or "", int),
        densities=_numbers("density", density, float),
        seconds=seconds,
        data=None if data is None else str(data),
    )
    was_signed = opened.signature is not None
    opened = _with_twins(opened, precisions)
    if prepare:
        if was_signed and opened.signature is None:
            note("the bundle's signature covered what it was before; sign it again")
        added = {p: opened.manifest["dense"][p] for p in precisions}
        if as_json:
            print_json("breakeven", {"bundle": str(bundle), "dense": added, "entries": []})
        else:
            print(f"{bundle} has dense twins: {', '.join(t['file'] for t in added.values())}")
        return
    kept: list[KeptRows] = []
    requests = [replace(request, precision=p) for p in precisions]
    if on is None:
        kept = [_kept_rows(opened, r) for r in requests]
        entries = [_measure_here(opened, r, k) for r, k in zip(requests, kept, strict=True)]
    else:
        note(f"measuring on {on}: {len(requests) * len(cells(opened, request))} cells of {seconds:g} s")
        with connect(Target.parse(on, remote_python), bundle, data=data, wheelhouse=wheelhouse) as there:
            entries = [there.breakeven(r) for r in requests]
    if was_signed:
        note("the bundle's signature covered what it was before; sign it again")
    _store(opened, entries)
    for rows in kept:
        rows.clear()
    if as_json:
        print_json("breakeven", {"bundle": str(bundle), "entries": entries})
        return
    for entry in entries:
        _print(entry)


def _precisions(opened: Bundle, wanted: str) -> list[str]:
    if wanted not in ("all", "float32", "int8"):
        raise InputError(f"`--precision` must be float32, int8 or all; got {wanted}.")
    if opened.manifest.get("attention", {}).get("mode") != "sparse" or opened.manifest["input"].get(
        "tensors"
    ):
        raise InputError(f"{opened.path} must hold a sparse model of windows; there is nothing to switch.")
    if wanted != "all":
        opened.model_file(wanted)
        return [wanted]
    return list(opened.precisions)


def _with_twins(opened: Bundle, precisions: list[str]) -> Bundle:
    """The bundle with a dense twin of each precision; making one needs the extra `export`."""
    if all(twin_file(opened.manifest, p) for p in precisions):
        return opened
    if any(importlib.util.find_spec(name) is None for name in ("onnx", "onnxscript", "torch")):
        what = f"`edgesparse breakeven` without `--prepare {opened.path}` on another machine before"
        raise MissingExtraError(what, "onnx", "export")
    from edgesparse_export.twin_bundle import add_twins

    return add_twins(opened, precisions)


def _measure_here(opened: Bundle, request: BreakEvenRequest, kept: KeptRows) -> dict[str, Any]:
    planned, done = cells(opened, request), kept.done
    left = sum(cell not in done for cell in planned)
    if left < len(planned):
        note(f"{len(planned) - left} of {len(planned)} cells were measured before the interruption")
    with progress(f"break-even, {request.precision}", len(planned), start=len(planned) - left) as shown:
        return measure_breakeven(request, shown, done=done, on_row=kept.add)


def _kept_rows(opened: Bundle, request: BreakEvenRequest) -> KeptRows:
    session = Session(opened, precision=request.precision, threads=request.threads, attention="sparse")
    machine = describe_machine(session.threads, session.engine)
    return KeptRows(opened.path, machine | {"model": hash_of(opened.manifest, request.precision)}, request)


def _store(opened: Bundle, entries: list[dict[str, Any]]) -> None:
    """Put the entries into the bundle in place of older ones of the same machine and precision."""
    new = [_place(entry) for entry in entries]
    older = [e for e in opened.manifest["breakeven"] if _place(e) not in new]
    rewrite_bundle(opened, {}, {"breakeven": older + entries})


def _place(entry: Mapping[str, Any]) -> list[Any]:
    return [entry.get(name) for name in (*MACHINE, "precision")]


def _numbers(name: str, text: str, kind: type[int] | type[float]) -> list[Any]:
    try:
        return [kind(part) for part in text.split(",")] if text else []
    except ValueError:
        raise InputError(f"`--{name}` must be numbers with commas between; got {text!r}.") from None


def _print(entry: dict[str, Any]) -> None:
    rows = []
    for row in entry["table"]:
        agreement = row["agreement"]
        same = ""
        if agreement is not None:
            equal = agreement["equal"]
            same = f"moved {agreement['largest_difference']:.2g}" if equal is None else f"{equal:.1%} equal"
            same += f" (n={agreement['n']})" + ("" if row["agrees"] else ", too few")
        rows.append(
            [
                row["length"],
                "as exported" if row["density"] is None else f"{row['density']:.1%}",
                f"{row['kept']:.0%}",
                f"{row['sparse_ms']:.3f}",
                f"{row['dense_ms']:.3f}",
                f"{row['ratio']:.2f} [{row['low']:.2f}, {row['high']:.2f}]",
                row["winner"],
                same,
            ]
        )
    print(
        f"{entry['precision']}, {entry['threads']} thread(s), {entry['batch']} window(s) a call, "
        f"{entry['engine']}, {entry['cpu']}, onnxruntime {entry['onnxruntime']}"
    )
    header = ["steps", "density", "kept", "sparse ms", "dense ms", "sparse/dense", "faster", "decisions"]
    print_table(header, rows)
    print(f"{entry['precision']}: {describe_limit(entry)}\n")


def describe_limit(entry: dict[str, Any]) -> str:
    """What the runner does after this measurement, in words."""
    steps = next((r["steps"] for r in entry["dense_up_to"] if r["density"] is None), 0)
    if steps:
        return f"dense up to {steps} steps, sparse beyond"
    return "sparse always"
