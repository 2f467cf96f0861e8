"""`train`: labeled series to a run folder with weights, report and log."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from edgesparse.config import RunConfig
from edgesparse.model.transformer import count_parameters
from edgesparse.training.checkpoint import FILE_NAME
from edgesparse.training.cross_fit import cross_fitted_logits
from edgesparse.training.data import data_warnings
from edgesparse.training.evaluation import by_class, metric_of, predict
from edgesparse.training.head_stats import head_stats
from edgesparse.training.processes import Processes
from edgesparse.training.run_folder import Run, RunReport, save_run
from edgesparse.training.supervised import HEAD_SERIES, Fitted, budget_windows, fit_labeled
from edgesparse.training.temperature import Temperature, fit_temperature
from edgesparse_runtime.data.series_set import SeriesSet


def train(
    data: SeriesSet,
    config: RunConfig,
    out: Path,
    *,
    validation: SeriesSet | None = None,
    resume: bool = False,
    quiet: bool = False,
    initial: Mapping[str, Tensor] | None = None,
    processes: Processes | None = None,
) -> Run:
    """Train a model on labeled series and write a run folder.

    Args:
        data: labeled series; for forecasting, series whose last `horizon` steps are the targets.
        validation: labeled series to watch training with; None = `config.training.validation_share`.
        resume: continue from the checkpoint in `out`; on the same machine the weights end up the same.
        quiet: no progress.
        initial: weights and stem to start from (`edgesparse.pretrain`); None = fresh ones.
        processes: the processes that share a step; None = this one alone.

    Raises:
        InputError: no labels, one class only, too few steps, or a run that cannot be resumed.
    """
    processes = processes or Processes()
    fitted = fit_labeled(
        data,
        config,
        out,
        validation=validation,
        resume=resume,
        quiet=quiet,
        initial=initial,
        processes=processes,
    )
    run = Run(out, fitted.config, fitted.facts, fitted.model, make_report(fitted, quiet=quiet))
    if processes.is_main:
        save_run(run)
        (out / FILE_NAME).unlink(missing_ok=True)
    processes.wait()
    return run


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
    outputs = {}
    for name, data in (("training", fitted.training), ("validation", fitted.validation)):
        if len(data):
            outputs[name] = predict(fitted.model, data)
            report["metrics"][name] = metric_of(outputs[name], data, settings).to_dict()
    if settings.task == "classification":
        measured = by_class(outputs[measured_on], fitted.watched)
        report["classes"] = {"measured_on": measured_on} | measured
        temperature = _temperature(fitted, outputs.get("validation"), quiet=quiet)
        report["temperature"] = None if temperature is None else temperature.to_dict()
    return report


def _temperature(fitted: Fitted, held_out: Tensor | None, *, quiet: bool) -> Temperature | None:
    """Fit what `Run.to_scores` divides logits by; None = there is nothing to fit it on."""
    config = fitted.config
    fitted_on = config.training.temperature
    if fitted_on == "cross-fitted":
        return fit_temperature(*cross_fitted_logits(fitted.training.series, config, quiet=quiet), fitted_on)
    if fitted_on == "none" or held_out is None:
        return None
    return fit_temperature(held_out, fitted.validation.targets_B, fitted_on)
