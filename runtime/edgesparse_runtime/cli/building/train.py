"""`edgesparse train`: labeled data to a run folder."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from shlex import quote
from typing import Annotated, Any

import typer

from edgesparse_runtime.cli.openmp import wait_briefly
from edgesparse_runtime.cli.options import (
    Channels,
    GroupColumn,
    LabelColumn,
    SeriesColumn,
    Stride,
    Window,
    read_options,
)
from edgesparse_runtime.cli.output import note, print_fields, print_json, print_table
from edgesparse_runtime.cli.require import require
from edgesparse_runtime.data.readers import read_dataset
from edgesparse_runtime.errors import InputError
from edgesparse_runtime.evaluation.metrics import with_interval

# A choice in smaller blocks costs more than it saves.
SMALLEST_BLOCK = 4
# Of the run, and of its pre-training.
CHECKPOINTS = ("checkpoint.safetensors", "pretraining/checkpoint.safetensors")


def train(
    data: Annotated[
        Path, typer.Argument(help="Labeled series: .csv .parquet .npz .tsv .ts", show_default=False)
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Run folder to write.", show_default=False)],
    validation: Annotated[Path | None, typer.Option(help="Labeled series to watch training with.")] = None,
    pretrain: Annotated[
        Path | None,
        typer.Option(help="Unlabeled series of the same machine: learn to reconstruct masked spans first."),
    ] = None,
    preset: Annotated[str, typer.Option(help="tiny, small or base.")] = "tiny",
    attention: Annotated[str, typer.Option(help="sparse or dense.")] = "sparse",
    budget: Annotated[
        float | None, typer.Option(help="Share of dense attention's compute, 0 to 1. [0.3]")
    ] = None,
    task: Annotated[str, typer.Option(help="classification, regression or forecasting.")] = "classification",
    horizon: Annotated[
        int | None, typer.Option(help="Forecasting: steps to foretell, the last of each series.")
    ] = None,
    target: Annotated[str | None, typer.Option(help="Forecasting: channel to foretell. [the first]")] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the data. [chosen from its size]")] = None,
    seed: Annotated[int | None, typer.Option(help="Of everything random. [0]")] = None,
    config: Annotated[Path | None, typer.Option(help="YAML with sections model and training.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="section.key=value; may be repeated.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the checkpoint in the run folder.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a finished run.")] = False,
    label_column: LabelColumn = None,
    series_column: SeriesColumn = None,
    group_column: GroupColumn = None,
    channels: Channels = None,
    window: Window = None,
    stride: Stride = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Train a model: labeled data in, run folder out.

    Example: edgesparse train pump_TRAIN.csv -o runs/pump --budget 0.3

    Several processes share the work when `accelerate launch` or `torchrun` starts the command.
    """
    require("train", "train", "torch", "safetensors", "yaml")
    wait_briefly()
    from edgesparse.config import RunConfig, resolve_config
    from edgesparse.presets import PRESETS
    from edgesparse.training.accelerate_processes import is_launched
    from edgesparse.training.data import data_warnings
    from edgesparse.training.train import train as train_model

    processes = None
    if is_launched():
        require("train", "distributed", "accelerate")
        from edgesparse.training.accelerate_processes import AcceleratedProcesses

        processes = AcceleratedProcesses()
    is_main = processes is None or processes.is_main
    if preset not in PRESETS:
        raise InputError(f"`--preset` must be one of {', '.join(PRESETS)}; got {preset}.")
    base = RunConfig(model=PRESETS[preset]())
    flags = {
        "model.attention": attention,
        "training.task": task,
        "training.horizon": horizon,
        "training.target": target,
        "training.budget": budget,
        "training.epochs": epochs,
        "training.seed": seed,
    }
    given = [f"{key}={value}" for key, value in flags.items() if value is not None]
    if config is not None:
        # A flag left at its default must not undo the file.
        given = [g for g in given if g not in ("model.attention=sparse", "training.task=classification")]
    resolved = resolve_config(base, config, [*given, *(settings or [])])
    _check_out(out, resume, overwrite)
    if processes is not None:
        # Every process has looked before one of them writes.
        processes.wait()
    options = read_options(
        resolved.training.task, label_column, series_column, group_column, channels, window, stride
    )
    series = read_dataset(data, options)
    watched = None if validation is None else read_dataset(validation, options)
    if not as_json and is_main:
        note(f"{data}: {len(series)} series, {len(series.channels)} channel(s)")
        for doubt in data_warnings(series, resolved.training):
            note(f"{data}: {doubt}")
    try:
        if pretrain is None:
            run = train_model(series, resolved, out, validation=watched, resume=resume, processes=processes)
        else:
            from edgesparse.training.pretrain import train_from_unlabeled

            run = train_from_unlabeled(
                series,
                read_dataset(pretrain, options),
                resolved,
                out,
                validation=watched,
                resume=resume,
                processes=processes,
            )
    except KeyboardInterrupt:
        if any((out / path).exists() for path in CHECKPOINTS):
            note(f"Stopped. The last whole epoch is kept: add --resume to go on in {out}.")
        else:
            note("Stopped before the first epoch was whole: nothing is kept.")
        raise
    if processes is not None:
        processes.close()
    if not is_main:
        return
    compute = run.report["compute"]
    if run.report["budget"] is not None and compute["attention_share"] > run.report["budget"]:
        can_shrink = (run.config.model.block_size or 0) > SMALLEST_BLOCK
        advice = (
            "Use a smaller model.block_size." if can_shrink else "Windows this short want --attention dense."
        )
        note(
            f"The budget of {run.report['budget']:.0%} is out of reach: the own blocks, summaries and router "
            f"cost {compute['attention_share']:.1%} already. {advice}"
        )
    for warning in run.report["warnings"]:
        note(f"Attention: {warning}")
    if as_json:
        print_json("train", {"run": str(out), "data": dataclasses.asdict(run.facts), **run.report})
    else:
        _print_report(out, run.report)


def _check_out(out: Path, resume: bool, overwrite: bool) -> None:
    if out.is_file():
        raise InputError(f"{out} must be a folder; it is a file.")
    is_unfinished = any((out / path).exists() for path in CHECKPOINTS)
    if (out / "run.json").exists() and not overwrite and not (resume and is_unfinished):
        nothing = ": there is nothing to resume" if resume else ""
        raise InputError(f"{out} holds a finished run{nothing}. Add --overwrite or choose another folder.")
    if is_unfinished and not resume and not overwrite:
        raise InputError(f"{out} holds an unfinished run. Add --resume to go on, or --overwrite.")


def _print_report(out: Path, report: Mapping[str, Any]) -> None:
    compute = report["compute"]
    fields: dict[str, object] = {"run": out, "weights": f"{report['parameters']:,}"}
    for name, metric in report["metrics"].items():
        fields[f"{metric['name']}, {name}"] = with_interval(metric)
    if done := report.get("pretraining"):
        fields["pre-training"] = (
            f"{done['series']} windows of {done['source']}, {done['steps']} steps; error of masked spans "
            f"{done['error_before']:.2f} -> {done['error_after']:.2f} (n={done['held_out']}, 1 = the mean)"
        )
    fields["attention compute"] = f"{compute['attention_share']:.1%} of dense attention"
    fields["whole model"] = f"{compute['model_share']:.1%} of the dense model"
    if found := report.get("temperature"):
        fields["calibration error"] = (
            f"{found['error_before']:.3f} -> {found['error_after']:.3f} at temperature "
            f"{found['value']:.2f} ({found['fitted_on']}, n={found['n']})"
        )
    for name in ("density", "entropy", "captured_mass"):
        for layer in sorted({head["layer"] for head in report["heads"]}):
            values = [head[name] for head in report["heads"] if head["layer"] == layer]
            fields[f"{name.replace('_', ' ')}, layer {layer}"] = (
                "  ".join(f"{v:.0%}" for v in values) + "  (per head)"
            )
    fields["next"] = f"edgesparse export {quote(str(out))} -o {quote(out.name + '.edgesparse')}"
    print_fields(fields)
    _print_classes(report)


def _print_classes(report: Mapping[str, Any]) -> None:
    """Recall by class where classes are of unequal size: there accuracy alone would mislead."""
    found: dict[str, Any] = report.get("classes", {"recall": {}})
    sizes = [metric["n"] for metric in found["recall"].values()]
    if not sizes or max(sizes) <= 1.5 * min(sizes):
        return
    balanced = found["balanced_accuracy"]
    print(f"\nbalanced accuracy, {found['measured_on']}  {balanced['value']:.3f}")
    print_table(
        ["class", "recall", "95 %", "n"],
        [
            [name, f"{m['value']:.2f}", f"[{m['low']:.2f}, {m['high']:.2f}]", m["n"]]
            for name, m in found["recall"].items()
        ],
    )
