"""`train`: labeled series to a run folder with weights, report and log."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from edgesparse.config import RunConfig
from edgesparse.inputs import Data, to_config, to_folder, to_series
from edgesparse.model.transformer import count_parameters
from edgesparse.training.checkpoint import FILE_NAME
from edgesparse.training.cross_fit import FOLDS_FILE, CrossValidation, cross_fitted_logits
from edgesparse.training.data import TrainingSet, data_warnings, evenly_spaced, in_memory
from edgesparse.training.evaluation import by_class, metric_of, predict, run_apart
from edgesparse.training.head_stats import head_stats
from edgesparse.training.parallel.processes import Processes
from edgesparse.training.run_folder import LOG, RUN, Run, RunReport, load_run, save_run
from edgesparse.training.supervised import (
    HEAD_SERIES,
    Fitted,
    budget_windows,
    fit_labeled,
    is_linear_forecaster,
)
from edgesparse.training.temperature import Temperature, fit_temperature
from edgesparse.unknown.channel_order import fit_order
from edgesparse.unknown.fit import UnknownReport, fit_unknown, spread_rows
from edgesparse.unknown.score import UnknownScore, features_of
from edgesparse_runtime.data.channels import check_channels
from edgesparse_runtime.data.series_set import SeriesSet
from edgesparse_runtime.errors import InputError
from edgesparse_runtime.evaluation.evaluate import independent_groups

# Folder of the run that a refitted one was measured by.
HELD_OUT = "held-out"
# Windows that the metric on training series is measured on where they stay in their file.
MEASURED = 2048


def train(
    data: Data,
    config: RunConfig | None = None,
    out: str | PathLike[str] = "",
    *,
    labels: npt.ArrayLike | None = None,
    groups: npt.ArrayLike | None = None,
    validation: Data | None = None,
    cross_validation: CrossValidation | None = None,
    choice: Mapping[str, Any] | None = None,
    refit: bool = False,
    resume: bool = False,
    quiet: bool = False,
    initial: Mapping[str, Tensor] | None = None,
    processes: Processes | None = None,
) -> Run:
    """Train a model on labeled series and write a run folder.

    Args:
        data: labeled series, a file of them, or arrays with `labels`; for forecasting, series whose last
            `horizon` steps are the targets.
        config: None = the default.
        out: the run folder.
        labels: one per series, where `data` are arrays.
        groups: the machine, run or person of each series, where `data` are arrays.
        validation: labeled series to watch training with; None = `config.training.validation_share`.
        cross_validation: measured before (`edgesparse.cross_validate`); kept in the report.
        choice: of the model's size, made before (`edgesparse.choosing`); kept in the report.
        refit: once measured on held-out series, train again on all of them; the report keeps the measurement.
        resume: continue from the checkpoint in `out`; on the same machine the weights end up the same.
        quiet: no progress.
        initial: weights and stem to start from (`edgesparse.pretrain`); None = fresh ones.
        processes: the processes that share a step; None = this one alone.

    Raises:
        InputError: data, labels or paths of another kind, one class only, too few steps, or a run that
            cannot be resumed.
    """
    config, folder, processes = to_config(config), to_folder(out), processes or Processes()
    data = to_series(data, config.training, labels, groups)
    watched = None if validation is None else to_series(validation, config.training, name="validation")
    more = {"quiet": quiet, "initial": initial, "processes": processes}
    if refit:
        run = _refit(data, watched, config, folder, resume, more)
    else:
        run = _train(data, watched, config, folder, resume, more)
    if cross_validation is not None:
        run.report["cross_validation"] = cross_validation.to_dict()
    if choice is not None:
        run.report["choice"] = dict(choice)
    if processes.is_main:
        save_run(run)
        (folder / FILE_NAME).unlink(missing_ok=True)
        (folder / FOLDS_FILE).unlink(missing_ok=True)
    processes.wait()
    return run


def _train(
    data: SeriesSet,
    validation: SeriesSet | None,
    config: RunConfig,
    folder: Path,
    resume: bool,
    more: Mapping[str, Any],
) -> Run:
    fitted = fit_labeled(data, config, folder, validation=validation, resume=resume, **more)
    report = make_report(fitted, quiet=more["quiet"])
    found = fit_unknown_score(fitted)
    if found is not None:
        report["unknown"] = found[1].to_dict()
    score = None if found is None else found[0]
    return with_order(Run(folder, fitted.config, fitted.facts, fitted.model, report, score), fitted)


def with_order(run: Run, fitted: Fitted) -> Run:
    """The run with what tells exchanged channels, where training windows do."""
    found = fit_order(fitted.training.series)
    if found is None:
        return run
    return replace(run, order=found[0], report={**run.report, "channel_order": found[1].to_dict()})


def _refit(
    data: SeriesSet,
    validation: SeriesSet | None,
    config: RunConfig,
    folder: Path,
    resume: bool,
    more: Mapping[str, Any],
) -> Run:
    """A run that is measured on held-out series, then one on all of them, as long as the first was."""
    first = folder / HELD_OUT
    if resume and (first / RUN).exists():
        measured = load_run(first)
    else:
        again = resume and (first / FILE_NAME).exists()
        measured = train(data, config, first, validation=validation, resume=again, **more)
    if "validation" not in measured.report["metrics"]:
        raise InputError(
            "`refit` needs held-out series: nothing was held out. Set training.validation_share=0.2 or give "
            "validation data."
        )
    epochs = len((first / LOG).read_text(encoding="utf-8").splitlines())
    settings = replace(config.training, validation_share=0.0, patience=0, temperature="none")
    if config.training.patience:
        settings = replace(settings, epochs=epochs)
    everything = data if validation is None else _joined(data, validation)
    again = resume and (folder / FILE_NAME).exists()
    more = {**more, "linear": is_linear_forecaster(measured.model)}
    run = _train(everything, None, replace(config, training=settings), folder, again, more)
    kept: RunReport = {**run.report, "metrics": {**run.report["metrics"]}, "refit": True}
    kept["metrics"]["validation"] = measured.report["metrics"]["validation"]
    for name in ("classes", "temperature", "held_out"):
        if name in measured.report:
            kept[name] = measured.report[name]
    return replace(run, config=replace(run.config, training=config.training), report=kept)


def _joined(data: SeriesSet, more: SeriesSet) -> SeriesSet:
    more = check_channels(more, data.channels)
    columns: dict[str, Any] = {}
    for name in ("labels", "groups"):
        parts = getattr(data, name), getattr(more, name)
        columns[name] = None if any(part is None for part in parts) else np.concatenate(parts)
    series = [*data.series, *more.series]
    return data.with_series(series, ids=None, recordings=None, starts=None, **columns)


def fit_unknown_score(fitted: Fitted) -> tuple[UnknownScore, UnknownReport] | None:
    """What tells windows unlike all training windows; None without a skip."""
    if fitted.model.skip is None:
        return None
    training, validation, features = fitted.training, fitted.validation, partial(features_of, fitted.model)
    if training.is_stored:
        training = _part(training, spread_rows(training.targets_B, len(fitted.facts.classes)), fitted)
    if validation.is_stored:
        validation = _part(validation, evenly_spaced(len(validation), MEASURED), fitted)
    known = run_apart(fitted.model, training, features)
    held = run_apart(fitted.model, validation, features) if len(validation) else known[:0]
    groups = independent_groups(training.series)
    return fit_unknown(known, training.targets_B, len(fitted.facts.classes), groups, held)


def make_report(fitted: Fitted, *, quiet: bool = True) -> RunReport:
    """Measure a trained model: compute, heads, metrics, and a temperature for its scores."""
    config, settings = fitted.config, fitted.config.training
    measured_on = "validation" if len(fitted.validation) else "training"
    heads = head_stats(fitted.model, torch.split(budget_windows(fitted.watched)[:HEAD_SERIES], 1))
    report: RunReport = {
        "parameters": count_parameters(fitted.model),
        "budget": settings.budget if config.model.attention == "sparse" else None,
        "compute": fitted.compute.to_dict() | {"measured_on": measured_on},
        "heads": [head.to_dict() for head in heads],
        "warnings": [head.warning for head in heads if head.warning],
        "data_warnings": data_warnings(fitted.training.series, settings),
        "metrics": {},
    }
    if fitted.skip is not None:
        report["skip"] = fitted.skip.to_dict()
    if len(fitted.validation):
        groups = fitted.validation.series.groups
        report["held_out"] = {
            "series": len(fitted.validation),
            "groups": [] if groups is None else sorted({str(group) for group in groups}),
        }
    outputs = {}
    training, validation = fitted.training, fitted.validation
    if training.is_stored:
        training = _part(training, evenly_spaced(len(training), MEASURED), fitted)
    for name, data in (("training", training), ("validation", validation)):
        if len(data):
            outputs[name] = predict(fitted.model, data, quiet=quiet)
            report["metrics"][name] = metric_of(outputs[name], data, settings).to_dict()
    if settings.task == "classification":
        measured = by_class(outputs[measured_on], validation if len(validation) else training)
        report["classes"] = {"measured_on": measured_on} | measured
        temperature = _temperature(fitted, outputs.get("validation"), quiet=quiet)
        report["temperature"] = None if temperature is None else temperature.to_dict()
    return report


def _part(data: TrainingSet, rows: Tensor, fitted: Fitted) -> TrainingSet:
    """Some windows of those that stay in their file, held in memory."""
    return in_memory(data.part(rows, fitted.config.training))


def _temperature(fitted: Fitted, held_out: Tensor | None, *, quiet: bool) -> Temperature | None:
    """Fit what `Run.to_scores` divides logits by; None = there is nothing to fit it on."""
    config = fitted.config
    fitted_on = config.training.temperature
    if fitted_on == "cross-fitted":
        return fit_temperature(*cross_fitted_logits(fitted.training.series, config, quiet=quiet), fitted_on)
    if fitted_on == "none" or held_out is None:
        return None
    return fit_temperature(held_out, fitted.validation.targets_B, fitted_on)
