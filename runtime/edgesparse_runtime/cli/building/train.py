"""`edgesparse train`: labeled data to a run folder."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, replace
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgesparse_runtime.cli.openmp import wait_briefly
from edgesparse_runtime.cli.options import Epochs, TableOptions
from edgesparse_runtime.cli.output import note, print_fields, print_json, print_table
from edgesparse_runtime.cli.preflight import note_data
from edgesparse_runtime.cli.require import require
from edgesparse_runtime.data.readers import ReadOptions, read_dataset
from edgesparse_runtime.data.series_set import SeriesSet
from edgesparse_runtime.errors import InputError
from edgesparse_runtime.evaluation.metrics import ERRORS, figure, with_interval

if TYPE_CHECKING:
    from edgesparse.choosing.choose_model import ModelChoice
    from edgesparse.config import RunConfig
    from edgesparse.training.cross_fit import CrossValidation
    from edgesparse.training.parallel.processes import Processes
    from edgesparse.training.run_folder import Run, RunReport

# Routing in smaller blocks costs more than it saves.
SMALLEST_BLOCK = 4
# Of the run, of its pre-training, of the run that a refitted one was measured by, and of cross-validation.
CHECKPOINTS = (
    "checkpoint.safetensors",
    "pretraining/checkpoint.safetensors",
    "held-out/checkpoint.safetensors",
    "held-out/run.json",
    "cross-validation.json",
)


@dataclass(frozen=True, kw_only=True)
class TrainRequest(TableOptions):
    """Arguments and options of `edgesparse train`."""

    data: Annotated[
        Path,
        typer.Argument(
            help="Labeled series: a folder of recordings, .csv, .parquet, .npz, .tsv, .ts, .wav or .mat.",
            show_default=False,
        ),
    ]
    out: Annotated[Path, typer.Option("--out", "-o", help="Run folder to write.", show_default=False)]
    validation: Annotated[
        Path | None, typer.Option(help="Labeled series of the validation split; never trained on.")
    ] = None
    cross_validate: Annotated[
        str | None,
        typer.Option(
            help="Column of groups, such as machine: measure each group by a model trained without it, "
            "then train on all."
        ),
    ] = None
    refit: Annotated[
        bool, typer.Option("--refit", help="Once measured on held-out series, train again on all of them.")
    ] = False
    pretrain: Annotated[
        Path | None,
        typer.Option(help="Unlabeled series of the same machine for self-supervised pre-training."),
    ] = None
    preset: Annotated[
        str | None, typer.Option(help="Size of the transformer: tiny, small or base. [tiny]")
    ] = None
    model: Annotated[
        str | None,
        typer.Option(
            help="small: fixed features and a linear map, in seconds; full: with a transformer added; "
            "auto: full where it is better out of fold, else small. [small, unless forecasting or an option "
            "selects a transformer: --attention, --budget, --preset, --epochs, --pretrain, --config]"
        ),
    ] = None
    attention: Annotated[str | None, typer.Option(help="sparse or dense. [sparse]")] = None
    budget: Annotated[
        float | None, typer.Option(help="Share of dense attention's compute, 0 to 1. [0.3]")
    ] = None
    task: Annotated[str, typer.Option(help="classification, regression or forecasting.")] = "classification"
    horizon: Annotated[
        int | None, typer.Option(help="Forecasting: steps to predict (the last ones of each series).")
    ] = None
    target: Annotated[str | None, typer.Option(help="Forecasting: channel to predict. [the first]")] = None
    epochs: Epochs = None
    seed: Annotated[int | None, typer.Option(help="Seed of all random numbers. [0]")] = None
    config: Annotated[Path | None, typer.Option(help="YAML file with the sections model and training.")] = (
        None
    )
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="section.key=value; may be repeated.")
    ] = None
    resume: Annotated[
        bool, typer.Option("--resume", help="Resume from the checkpoint in the run folder.")
    ] = False
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a finished run.")] = False


def train(request: TrainRequest) -> None:
    """Train a model: labeled data in, run folder out.

    Example: edgesparse train pump_TRAIN.csv -o runs/pump

    `accelerate launch` or `torchrun` in front of the command splits the work over several processes.
    """
    require("train", "train", "torch", "safetensors", "yaml")
    wait_briefly()
    from edgesparse.training.parallel.accelerate_processes import is_launched

    processes = None
    if is_launched():
        require("train", "distributed", "accelerate")
        from edgesparse.training.parallel.accelerate_processes import AcceleratedProcesses

        processes = AcceleratedProcesses()
    config = _resolve(request)
    _check_out(request)
    if processes is not None:
        # Every process has looked before one of them writes.
        processes.wait()
    run = _fit(request, config, processes)
    if processes is not None:
        processes.close()
    if processes is not None and not processes.is_main:
        return
    _note_limits(run)
    if request.as_json:
        print_json("train", {"run": str(request.out), "data": dataclasses.asdict(run.facts), **run.report})
    else:
        _print_report(request.out, run.report)


def _resolve(request: TrainRequest) -> RunConfig:
    from edgesparse.choosing.default_model import MODELS
    from edgesparse.config import RunConfig, resolve_config
    from edgesparse.presets import PRESETS

    preset = request.preset or "tiny"
    if preset not in PRESETS:
        raise InputError(f"`--preset` must be one of {', '.join(PRESETS)}; got {preset}.")
    if request.model not in (None, *MODELS):
        raise InputError(f"`--model` must be one of {', '.join(MODELS)}; got {request.model}.")
    model = request.model or _default_model(request)
    flags: dict[str, object] = {} if model is None else dict(MODELS[model])
    flags |= {
        "model.attention": request.attention,
        "training.task": request.task,
        "training.horizon": request.horizon,
        "training.target": request.target,
        "training.budget": request.budget,
        "training.epochs": request.epochs,
        "training.seed": request.seed,
    }
    given = [f"{key}={value}" for key, value in flags.items() if value is not None]
    if request.config is not None:
        # A flag left at its default must not undo the file.
        given = [g for g in given if g != "training.task=classification"]
    base = RunConfig(model=PRESETS[preset]())
    return resolve_config(base, request.config, [*given, *(request.settings or [])])


def _default_model(request: TrainRequest) -> str | None:
    """The small model, unless what is given is for a transformer alone; None = as configured."""
    from edgesparse.choosing.default_model import default_model

    options = (
        request.attention,
        request.budget,
        request.preset,
        request.epochs,
        request.pretrain,
        request.config,
    )
    return default_model(
        request.task, options, [text.split("=")[0].strip() for text in request.settings or []]
    )


def _fit(request: TrainRequest, config: RunConfig, processes: Processes | None) -> Run:
    from edgesparse.training.data import data_warnings
    from edgesparse.training.pretrain import train_from_unlabeled
    from edgesparse.training.train import train as train_model

    options = request.read_options(config.training.task)
    options = _with_groups(request, options)
    series = read_dataset(request.data, options)
    if series.labels is None and request.data.is_dir() and config.training.task != "forecasting":
        raise InputError(
            f"{request.data} must name a class for each recording. Put those of a class into one sub-folder, "
            "add labels.csv (file,label), or state --label-from '{label}_*'."
        )
    watched = (
        None
        if request.validation is None
        else read_dataset(request.validation, replace(options, model_channels=series.channels))
    )
    is_shown = not request.as_json and (processes is None or processes.is_main)
    if is_shown:
        note(f"{request.data}: {len(series)} series, {len(series.channels)} channel(s)")
        note_data(series, roles=True)
        for warning in data_warnings(series, config.training):
            note(f"{request.data}: {warning}")
    out, resume = request.out, request.resume
    try:
        if request.pretrain is None:
            config, choice = _choose(request, series, config, is_shown)
            found, config = _cross_validate(request, series, config, is_shown)
            # A run that was stopped in its cross-validation has no checkpoint of its own yet.
            resume = resume and (found is None or request.refit or (out / CHECKPOINTS[0]).exists())
            return train_model(
                series,
                config,
                out,
                validation=watched,
                cross_validation=found,
                choice=None if choice is None else choice.to_dict(),
                refit=request.refit,
                resume=resume,
                processes=processes,
            )
        unlabeled = read_dataset(
            request.pretrain, replace(options, needs_labels=False, model_channels=series.channels)
        )
        return train_from_unlabeled(
            series, unlabeled, config, out, validation=watched, resume=resume, processes=processes
        )
    except KeyboardInterrupt:
        if any((out / path).exists() for path in CHECKPOINTS):
            note(f"Stopped. What is complete is kept in {out}: add --resume to continue.")
        else:
            note("Stopped before the first epoch was complete: nothing is kept.")
        raise


def _with_groups(request: TrainRequest, options: ReadOptions) -> ReadOptions:
    """The options with the groups to cross-validate over."""
    if request.pretrain is not None and (request.cross_validate is not None or request.refit):
        raise InputError("`--cross-validate` and `--refit` do not go with `--pretrain`.")
    if request.pretrain is not None and request.model in ("auto", "small"):
        raise InputError(f"`--model` {request.model} does not go with `--pretrain`. Use `--model full`.")
    if request.cross_validate is None:
        return options
    if options.group_column not in (None, request.cross_validate):
        raise InputError(
            f"`--cross-validate` {request.cross_validate} and `--group-column` {options.group_column} "
            "must name the same column."
        )
    return replace(options, group_column=request.cross_validate)


def _cross_validate(
    request: TrainRequest, series: SeriesSet, config: RunConfig, is_shown: bool
) -> tuple[CrossValidation | None, RunConfig]:
    """What was measured, and the configuration to train with afterwards."""
    from edgesparse.training.cross_fit import cross_validate

    if request.cross_validate is None:
        return None, config
    say = note if is_shown else lambda _: None
    found = cross_validate(series, config, out=request.out, resume=request.resume, say=say)
    if config.training.validation_share is None:
        # All groups are measured already: none is kept out of the final model.
        config = replace(config, training=replace(config.training, validation_share=0.0))
    return found, config


def _choose(
    request: TrainRequest, series: SeriesSet, config: RunConfig, is_shown: bool
) -> tuple[RunConfig, ModelChoice | None]:
    """The configuration of the smaller model where the larger one is not better."""
    from edgesparse.choosing.choose_model import choose_model

    if request.model != "auto":
        return config, None
    return choose_model(series, config, say=note if is_shown else lambda _: None)


def _note_limits(run: Run) -> None:
    """What the user should know about attention before trusting the run."""
    share = run.report["compute"]["attention_share"]
    if run.report["budget"] is not None and share > run.report["budget"]:
        can_shrink = (run.config.model.block_size or 0) > SMALLEST_BLOCK
        advice = (
            "Use a smaller model.block_size."
            if can_shrink
            else "For windows this short use --attention dense."
        )
        note(
            f"The budget of {run.report['budget']:.0%} is out of reach: diagonal blocks, summaries and the "
            f"router alone cost {share:.1%}. {advice}"
        )
    for warning in run.report["warnings"]:
        note(f"Attention: {warning}")


def _check_out(request: TrainRequest) -> None:
    out, resume, overwrite = request.out, request.resume, request.overwrite
    if out.is_file():
        raise InputError(f"{out} is a file; `--out` must be a folder.")
    is_unfinished = any((out / path).exists() for path in CHECKPOINTS)
    if (out / "run.json").exists() and not overwrite and not (resume and is_unfinished):
        nothing = ": there is nothing to resume" if resume else ""
        raise InputError(f"{out} holds a finished run{nothing}. Add --overwrite or choose another folder.")
    if is_unfinished and not resume and not overwrite:
        raise InputError(f"{out} holds an unfinished run. Add --resume to continue it, or --overwrite.")


def _print_report(out: Path, report: RunReport) -> None:
    compute = report["compute"]
    fields: dict[str, object] = {"run": out, "weights": f"{report['parameters']:,}"}
    fields |= _choice(report)
    fields |= _measured(report)
    if done := report.get("pretraining"):
        fields["pre-training"] = (
            f"{done['series']} windows of {done['source']}, {done['steps']} steps; reconstruction error of "
            f"masked spans {done['error_before']:.2f} -> {done['error_after']:.2f} "
            f"(n={done['held_out']}; 1 = predicting the mean)"
        )
    if report["heads"] or "skip" not in report:
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
            shares = "  ".join(f"{v:.0%}" for v in values)
            fields[f"{name.replace('_', ' ')}, layer {layer}"] = f"{shares}  (per head)"
    if fitted := report["metrics"].get("training"):
        fields[f"{fitted['name']}, training series"] = f"{with_interval(fitted)}, of no meaning for new ones"
    fields["next"] = f"edgesparse export {quote(str(out))} -o {quote(out.name + '.edgesparse')}"
    print_fields(fields)
    _print_classes(report)


def _choice(report: RunReport) -> dict[str, object]:
    """What was chosen by measurement: the model, and what its fixed features are computed on."""
    fields: dict[str, object] = {}
    if found := report.get("choice"):
        fields["model"] = f"{found['model']}: {found['reason']}"
    taken = [entry["taken"] for entry in report.get("skip", {}).get("tried", []) if entry.get("taken")]
    return fields | ({"chosen by leave-one-out": "; ".join(taken)} if taken else {})


def _measured(report: RunReport) -> dict[str, object]:
    """The metric on series that were not trained on, or that there is none."""
    fields: dict[str, object] = {}
    name = next(iter(report["metrics"].values()))["name"]
    if found := report.get("cross_validation"):
        values = sorted(metric["value"] for metric in found["groups"].values())
        fields[f"{name}, unseen groups"] = (
            f"{figure(name, values[0])} to {figure(name, values[-1])} on {len(values)} groups, each by a "
            "model trained without it"
        )
        for group, metric in found["groups"].items():
            fields[f"  {group}"] = with_interval(metric)
        if found["left_out"]:
            fields["  not measured"] = f"{', '.join(found['left_out'])}: without it one class only is left"
    if skip := report.get("skip"):
        alone = ", skip alone" if report["heads"] else ""
        beside = (
            _beside_groups(name, skip["left_out"], found["overall"]) if found and not report["heads"] else ""
        )
        fields[f"{name}, leave-one-out{alone}"] = with_interval(skip["left_out"]) + beside
    if held := report["metrics"].get("validation"):
        fields[f"{name}, held out"] = with_interval(held)
        groups = report.get("held_out", {}).get("groups", [])
        if groups:
            which = ", ".join(groups[:6]) + (", ..." if len(groups) > 6 else "")
            refit = "trained on again afterwards" if report.get("refit") else "not trained on: add --refit"
            fields["groups held out"] = f"{which} ({refit})"
    if not fields:
        fields[f"{name}, new series"] = (
            "not measured: nothing was held out. Add --cross-validate COLUMN or --validation FILE"
        )
    return fields


def _beside_groups(name: str, known: dict[str, Any], unseen: dict[str, Any]) -> str:
    """How much better a figure looks where other series of the same group were trained on."""
    gain = known["value"] - unseen["value"]
    if figure(name, known["value"]) == figure(name, unseen["value"]):
        return ", as on unseen groups"
    amount = figure(name, abs(gain)) if name in ERRORS else f"{100 * abs(gain):.1f} points"
    word = "better" if (gain < 0) == (name in ERRORS) else "worse"
    return f", {amount} {word} than on unseen groups: others of the same group were trained on"


def _print_classes(report: RunReport) -> None:
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
