"""`edgesparse poc`: dense, sparse and small models on the user's data, measured and compared."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from edgesparse_runtime.cli.openmp import wait_briefly
from edgesparse_runtime.cli.options import Epochs, TableOptions
from edgesparse_runtime.cli.output import note, print_fields, print_json, print_table
from edgesparse_runtime.cli.preflight import note_data
from edgesparse_runtime.cli.require import require
from edgesparse_runtime.cli.restate import restate
from edgesparse_runtime.data.readers import read_dataset
from edgesparse_runtime.data.series_set import SeriesSet
from edgesparse_runtime.errors import InputError
from edgesparse_runtime.machine.memory_bounds import check_counts, check_spans
from edgesparse_runtime.measure.decision.words import model_name, verdict_sentence
from edgesparse_runtime.onnx_model import default_threads

if TYPE_CHECKING:
    from edgesparse_export.poc.plan import Plan

# Of the series, where no test file is given.
HELD_OUT = 0.3
# A training takes a gigabyte.
MOST_JOBS = 4


@dataclass(frozen=True, kw_only=True)
class PocRequest(TableOptions):
    """Arguments and options of `edgesparse poc`."""

    data: Annotated[
        Path,
        typer.Argument(
            help="Labeled series: a folder of recordings, .csv, .parquet, .npz, .tsv, .ts, .wav or .mat.",
            show_default=False,
        ),
    ]
    out: Annotated[
        Path,
        typer.Option("--out", "-o", help="Folder to write; run again to continue in it.", show_default=False),
    ]
    test: Annotated[
        Path | None,
        typer.Option(help="Labeled series to measure on. [30 % of DATA, whole groups where it has groups]"),
    ] = None
    seeds: Annotated[int, typer.Option(help="Trainings of each model.")] = 3
    margin: Annotated[
        float, typer.Option(help="Accuracy that a model may lose to dense attention and count as not worse.")
    ] = 0.03
    time_budget: Annotated[
        float | None,
        typer.Option(help="Seconds of computing; what does not fit is dropped and named. [no limit]"),
    ] = None
    seconds: Annotated[float, typer.Option(help="Seconds to measure each model's latency.")] = 2.0
    jobs: Annotated[
        int | None, typer.Option(help="Trainings side by side, one thread each. [the cores, at most 4]")
    ] = None
    epochs: Epochs = None
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="section.key=value of training; may be repeated.")
    ] = None
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Forget what the folder holds.")] = False


def poc(request: PocRequest) -> None:
    """Compare dense, sparse and small models on your data: which one to use, and how sure that is.

    Dense attention, 10, 30 and 70 % less attention compute, the small model, and MultiRocket-Hydra where aeon
    is installed. Several seeds, a learning curve, noise, int8, and latency on this machine.

    Example: edgesparse poc pump_TRAIN.csv --test pump_TEST.csv -o poc/pump
    """
    require("poc", "all", "torch", "onnx", "onnxscript", "safetensors", "yaml")
    wait_briefly()
    _check(request)
    from edgesparse_export.poc.plan import RIVAL, Plan, overrides
    from edgesparse_export.poc.rival import missing_package
    from edgesparse_export.poc.run import run_poc

    settings = [*(request.settings or [])]
    if request.epochs is not None:
        settings.append(f"training.epochs={request.epochs}")
    missing = missing_package()
    plan = Plan(
        seeds=request.seeds,
        settings=tuple(settings),
        margin=request.margin,
        seconds=request.seconds,
        time_budget=request.time_budget,
        jobs=request.jobs or min(default_threads(), MOST_JOBS),
        left_out={} if missing is None else {RIVAL: missing},
    )
    _check_settings(plan, overrides("dense", 0, settings))
    training, test = _read(request)
    note(f"{len(training)} series to train on, {len(test)} to measure on: {training.source}, {test.source}")
    facts = {"command": restate("poc", request)}
    result = run_poc(training, test, request.out, plan, say=note, overwrite=request.overwrite, facts=facts)
    if request.as_json:
        print_json("poc", {name: value for name, value in result.items() if name != "schema"})
    else:
        _print(request.out, result)


def _check(request: PocRequest) -> None:
    check_counts({"--seeds": request.seeds, "--jobs": request.jobs})
    check_spans({"--seconds": request.seconds})
    if not 0 < request.margin < 1:
        raise InputError(f"`--margin` must be between 0 and 1; got {request.margin:g}. Use 0.03.")
    budget = request.time_budget
    if budget is not None and not 0 <= budget < math.inf:
        raise InputError(f"`--time-budget` must be at least 0 seconds; got {budget:g}.")
    if request.out.is_file():
        raise InputError(f"{request.out} is a file; `--out` must be a folder.")


def _check_settings(plan: Plan, overrides: list[str]) -> None:
    """Refuse a setting that no training knows, or that the rungs set themselves, before anything is read."""
    from edgesparse.config import RunConfig, resolve_config

    own = ("model.attention", "model.layers", "training.budget", "training.seed", "training.task")
    for text in plan.settings:
        if text.partition("=")[0].strip() in own:
            raise InputError(f"--set {text}: `poc` varies this itself. Leave it out.")
    resolve_config(RunConfig(), None, overrides)


def _read(request: PocRequest) -> tuple[SeriesSet, SeriesSet]:
    options = request.read_options("classification")
    data = read_dataset(request.data, options)
    note_data(data, roles=True)
    if data.labels is None:
        raise InputError(f"{request.data} must have labels to train on; there is no label column.")
    if request.test is not None:
        from dataclasses import replace

        test = read_dataset(request.test, replace(options, model_channels=data.channels))
        note_data(test)
        if test.labels is None:
            raise InputError(f"{request.test} must have labels to measure on; there is no label column.")
    else:
        from edgesparse.training.split import hold_out

        kept, held = hold_out(data, HELD_OUT, seed=0)
        test = replace_source(data.take(held), f"{len(held)} of them, held out")
        data = data.take(kept)
    _check_classes(data, test)
    return data, test


def replace_source(data: SeriesSet, source: str) -> SeriesSet:
    """The series under another name."""
    return data.with_series(data.series, source=source)


def _check_classes(training: SeriesSet, test: SeriesSet) -> None:
    assert training.labels is not None and test.labels is not None
    if len(np.unique(training.labels)) < 2:
        raise InputError(f"{training.source} must hold at least two classes.")
    unknown = sorted(set(map(str, test.labels)) - set(map(str, training.labels)))
    if unknown:
        raise InputError(
            f"{test.source} must hold classes that are trained on only; got {', '.join(unknown[:3])}."
        )
    if len(test) < 2:
        raise InputError(f"{test.source} must hold at least 2 series to measure on; got {len(test)}.")


def _print(out: Path, result: dict[str, Any]) -> None:
    rows = []
    for name, row in result["models"].items():
        a, d = row["accuracy"], result["verdict"]["models"][name]
        time = row["latency"]
        rows.append(
            [
                model_name(row),
                _with_ends(a, "{:.3f}"),
                "-" if d["state"] == "reference" else _with_ends(d["difference"], "{:+.3f}"),
                d["state"],
                "-" if row["attention_share"] is None else f"{row['attention_share']:.0%}",
                "-" if time is None else f"{time['p50']:.2f}",
                "-" if time is None else f"{time['p99']:.2f}",
                f"{row['noise_costs']['value']:+.3f}",
            ]
        )
    head = ["model", "accuracy [95 %]", "vs dense [95 %]", "", "attention", "p50 ms", "p99", "5 % noise"]
    print_table(head, rows)
    print()
    fields: dict[str, object] = {"verdict": verdict_sentence(result)}
    for name, points in result["curve"].items():
        fields[f"labels, {name}"] = "  ".join(f"{p['series']}: {p['value']:.3f}" for p in points["points"])
    for dropped in result["dropped"]:
        fields[f"dropped: {dropped['what']}"] = dropped["reason"]
    for name, reason in {**result["left_out"], **result["failed"]}.items():
        fields[f"not measured: {name}"] = reason
    fields["results"] = out / "poc.json"
    fields["next"] = f"edgesparse report {out} -o {out.name}.html"
    print_fields(fields)


def _with_ends(share: dict[str, Any], form: str) -> str:
    value = form.format(share["value"])
    if share["low"] is None:
        return f"{value} (no interval)"
    return f"{value} [{form.format(share['low'])}, {form.format(share['high'])}]"
