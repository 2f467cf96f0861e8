"""The training loop: reads top to bottom.

Dense attention first, while the router learns from it; then attention narrows to the budget over the first
third of the steps and stays there, so that training ends at the rule that serving uses. From then on a part
of a classifier's windows are disturbed. The weights that are kept are a running average. Few labels make
early stopping a gamble: the default is a fixed schedule, and no label is held out below 1,000 series.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, mse_loss

from edgesparse.attention.record import attention_records
from edgesparse.config import RunConfig, TrainingConfig
from edgesparse.model.build import build_model
from edgesparse.model.data_facts import DataFacts
from edgesparse.model.transformer import SequenceTransformer, choose_sizes, count_parameters
from edgesparse.training.augment import disturb, shift_in_time
from edgesparse.training.budget import BudgetController, calibrate, sparse_layers
from edgesparse.training.checkpoint import FILE_NAME, load_checkpoint, save_checkpoint
from edgesparse.training.consistency import consistency_loss
from edgesparse.training.data import class_weights, data_warnings, fingerprint, spread, to_targets
from edgesparse.training.data import data_facts as data_facts
from edgesparse.training.data import to_tensor as to_tensor
from edgesparse.training.evaluation import by_class, temperature
from edgesparse.training.evaluation import evaluate as evaluate
from edgesparse.training.head_stats import as_log_line, examine_heads
from edgesparse.training.masked_spans import Reconstruction, hide_spans, reach_of_window
from edgesparse.training.processes import Engine
from edgesparse.training.run_folder import LOG, Run, save_run, write_text
from edgesparse.training.schedule import attention_share, disturbed_share, learning_rate
from edgesparse.training.split import hold_out
from edgesparse_runtime.data.forecasting import cut_horizon
from edgesparse_runtime.data.series_set import SeriesSet
from edgesparse_runtime.errors import InputError
from edgesparse_runtime.progress import progress

# From this many series on, a share is held out by default to watch training.
ENOUGH_TO_HOLD_OUT, HELD_OUT = 1000, 0.1
# Windows that normalization and thresholds are learned on, and that the budget is measured on.
CALIBRATION_SERIES = 256
BUDGET_SERIES = 64
# Windows that the heads are examined on, and how often over a run the log says what they do.
HEALTH_SERIES = 8
HEALTH_LINES = 20


def train(
    data: SeriesSet,
    config: RunConfig,
    out: Path,
    *,
    validation: SeriesSet | None = None,
    resume: bool = False,
    quiet: bool = False,
    initial: Mapping[str, Tensor] | None = None,
    engine: Engine | None = None,
) -> Run:
    """Train a model on labeled series and write a run folder.

    Args:
        data: labeled series; for forecasting, series whose last `horizon` steps are what is to be foretold.
        validation: labeled series to watch training with; None = `config.training.validation_share`.
        resume: go on from the checkpoint in `out`; on the same machine the weights end up the same.
        quiet: no progress.
        initial: weights and stem to start from (`edgesparse.training.pretrain`); None = fresh ones.
        engine: who shares the work of a step; None = this process alone.

    Raises:
        InputError: no labels, one class only, too few steps.
    """
    settings, engine = config.training, engine or Engine()
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    if settings.task == "forecasting":
        assert settings.horizon is not None
        data = cut_horizon(data, settings.target, settings.horizon)
        if validation is not None:
            validation = cut_horizon(validation, settings.target, settings.horizon)
    facts = data_facts(data, settings)
    config = replace(config, model=choose_sizes(config.model, [x.shape[1] for x in data.series]))
    if validation is None:
        share = settings.validation_share
        if share is None:
            share = HELD_OUT if len(data) >= ENOUGH_TO_HOLD_OUT else 0.0
        kept, held = hold_out(data, share, seed=settings.seed, in_order=settings.task == "forecasting")
        data, validation = data.take(kept), data.take(held)
    torch.manual_seed(settings.seed)
    windows, lengths = to_tensor(data)
    targets = to_targets(data, facts, settings)
    model = build_model(config, facts)
    if initial is None:
        model.fit_stem(windows[spread(len(windows), CALIBRATION_SERIES)])
    else:
        load_initial(model, initial)
    engine.prepare(model)
    auxiliary: Reconstruction | None = None
    learner: torch.nn.Module = model
    if settings.auxiliary_weight:
        auxiliary = Reconstruction(config.model.width, model.bank.features)
        auxiliary.fit(model, windows[spread(len(windows), CALIBRATION_SERIES)])
        learner = torch.nn.ModuleList([model, auxiliary])
    epochs, steps_an_epoch = plan(len(data), settings)
    steps = epochs * steps_an_epoch
    weights = class_weights(targets, len(facts.classes)) if settings.balance_classes else None
    optimizer = torch.optim.AdamW(
        learner.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
    )
    controller = BudgetController(model, settings.rule)
    average = {name: p.detach().clone() for name, p in model.named_parameters()}
    # What is kept in the end: the latest average, or the one that the validation series liked best.
    best_average = kept_averages = average
    if settings.patience and len(validation):
        best_average = {name: value.clone() for name, value in average.items()}
        kept_averages = average | {f"best.{name}": value for name, value in best_average.items()}
    state: dict[str, Any] = {"epoch": 0, "best": None, "best_epoch": 0, "settings": config.to_dict()}
    state["data"] = began_with = fingerprint(data)
    out.mkdir(parents=True, exist_ok=True)
    examined = torch.split(windows[spread(len(windows), HEALTH_SERIES)], 1)
    if resume:
        state = load_checkpoint(out, learner, kept_averages, optimizer)
        if state["settings"] != config.to_dict():
            raise InputError(f"{out} was started with another configuration. Resume with the same one.")
        if state.get("data", began_with) != began_with:
            raise InputError(f"{out} was started with other data. Resume with the same series and labels.")
        controller.load_state(state["controller"])
        if engine.is_main:
            # A run killed between its log and its checkpoint has logged an epoch that it will repeat.
            lines = (out / LOG).read_text(encoding="utf-8").splitlines(keepends=True)
            write_text(out / LOG, "".join(lines[: state["epoch"]]))
    elif engine.is_main:
        (out / LOG).unlink(missing_ok=True)
    with progress(
        "Training", steps, start=state["epoch"] * steps_an_epoch, quiet=quiet or not engine.is_main
    ) as bar:
        for epoch in range(state["epoch"], epochs):
            # Each epoch's randomness depends on its number alone: a resumed run repeats it.
            torch.manual_seed(settings.seed * 100_003 + epoch)
            order = torch.randperm(len(windows))
            losses, shares = [], []
            model.train()
            for i in range(steps_an_epoch):
                step = epoch * steps_an_epoch + i
                controller.set_target(attention_share(step, steps, settings))
                for group in optimizer.param_groups:
                    group["lr"] = learning_rate(step, steps, settings.learning_rate)
                rows = order[i * settings.batch_size : (i + 1) * settings.batch_size]
                batch = windows[rows, :, : int(lengths[rows].max())]
                shift = 0.0 if settings.task == "forecasting" else settings.shift
                batch = shift_in_time(batch, lengths[rows], shift)
                if settings.task == "classification":
                    batch = disturb(batch, lengths[rows], disturbed_share(step, steps, settings))
                batch = engine.take(batch)
                mine = engine.take(rows)
                terms = []
                if auxiliary is not None:
                    tokens = model.token_count(batch.shape[-1])
                    hidden = hide_spans(
                        len(rows), tokens, longer_than=reach_of_window(model), share=settings.auxiliary_share
                    )
                    hidden &= torch.arange(tokens) < -(-lengths[rows, None] // model.patch)
                    lost = auxiliary(model, batch, engine.take(hidden))
                    lost = engine.mean(lost, engine.take(hidden).sum(), hidden.sum())
                    terms.append(settings.auxiliary_weight * lost)
                with attention_records(model) as records:
                    output = model(batch)
                loss = task_loss(output, targets[mine], settings, weights)
                loss = engine.mean(loss, *(weight_of(targets[r], weights) for r in (mine, rows)))
                router = [r.router_loss for r in records.values() if r.router_loss is not None]
                taught = engine.mean(sum(router, torch.zeros(())), len(mine), len(rows))
                if (
                    settings.consistency_weight
                    and controller.target < 1
                    and not step % settings.consistency_interval
                ):
                    apart = consistency_loss(
                        model, batch, output, is_classification=settings.task == "classification"
                    )
                    terms.append(settings.consistency_weight * engine.mean(apart, len(mine), len(rows)))
                total = sum(terms, loss + settings.router_weight * taught)
                optimizer.zero_grad()
                total.backward()  # type: ignore[no-untyped-call]
                engine.average_gradients(learner.parameters())
                torch.nn.utils.clip_grad_norm_(learner.parameters(), 1.0)
                optimizer.step()
                shares.append(controller.update(records, engine.sum))
                update_average(average, model, step, settings.average_decay)
                losses.append(float(engine.sum(loss.detach())) / engine.processes)
                if not math.isfinite(losses[-1]):
                    raise InputError(
                        f"The loss must stay finite; got {losses[-1]} at step {step + 1}. "
                        f"Try a lower training.learning_rate than {settings.learning_rate:g}."
                    )
                bar.advance(1, note=f"loss {losses[-1]:.3f}, attention {shares[-1]:.0%}")
            line: dict[str, Any] = {
                "epoch": epoch + 1,
                "loss": float(np.mean(losses)),
                "attention_share": float(np.mean(shares)),
            }
            if (epoch + 1) % max(1, epochs // HEALTH_LINES) == 0 and sparse_layers(model):
                line["heads"] = as_log_line(examine_heads(model, examined))
            stop = False
            if len(validation):
                metric = evaluate(with_weights(model, average, config, facts), validation, facts, settings)
                line[f"validation_{metric.name}"] = metric.value
                score = metric.value if settings.task == "classification" else -metric.value
                # A model that is not yet sparse must not win: it is not what will be served.
                may_win = not sparse_layers(model) or controller.target <= settings.budget
                if may_win and (state["best"] is None or score >= state["best"]):
                    # Of equal scores the later weights are kept, but only a better one buys patience.
                    if state["best"] is None or score > state["best"]:
                        state |= {"best": score, "best_epoch": epoch}
                    if best_average is not average:
                        for name, value in average.items():
                            best_average[name].copy_(value)
                stop = (
                    bool(settings.patience) and epoch - state["best_epoch"] >= settings.patience and may_win
                )
            state |= {"epoch": epoch + 1, "controller": controller.state()}
            if engine.is_main:
                with (out / LOG).open("a", encoding="utf-8") as log:
                    log.write(json.dumps(line) + "\n")
                save_checkpoint(out, learner, kept_averages, optimizer, state)
            stop = engine.agree(stop)
            if stop:
                break
    final = with_weights(model, best_average, config, facts)
    run = finish(final, data, validation, config, facts, out, quiet=quiet, write=engine.is_main)
    engine.wait()
    return run


def finish(
    model: SequenceTransformer,
    data: SeriesSet,
    validation: SeriesSet,
    config: RunConfig,
    facts: DataFacts,
    out: Path,
    *,
    quiet: bool = True,
    write: bool = True,
) -> Run:
    """Set the budget on data, measure, and write the run folder."""
    settings = config.training
    watched, on = (validation, "validation") if len(validation) else (data, "training")
    chosen = watched.take(spread(len(watched), BUDGET_SERIES).numpy())
    batches = list(torch.split(to_tensor(chosen)[0], 16))
    budget = settings.budget if config.model.attention == "sparse" else 1.0
    compute = calibrate(model, batches, budget, rule=settings.rule)
    heads = examine_heads(model, torch.split(to_tensor(chosen)[0][:HEALTH_SERIES], 1))
    report: dict[str, Any] = {
        "parameters": count_parameters(model),
        "budget": budget if config.model.attention == "sparse" else None,
        "compute": compute.to_dict() | {"measured_on": on},
        "heads": [head.to_dict() for head in heads],
        "warnings": [head.warning for head in heads if head.warning],
        "data_warnings": data_warnings(data, settings),
        "metrics": {},
    }
    for name, series in (("training", data), ("validation", validation)):
        if len(series):
            metric = evaluate(model, series, facts, settings)
            report["metrics"][name] = metric.to_dict()
    if settings.task == "classification":
        report["classes"] = {"measured_on": on} | by_class(model, watched, facts)
        report["calibration"] = temperature(model, data, validation, config, facts, quiet=quiet)
    run = Run(out, config, facts, model.eval(), report)
    if write:
        save_run(run)
        (out / FILE_NAME).unlink(missing_ok=True)
    return run


def load_initial(model: SequenceTransformer, initial: Mapping[str, Tensor]) -> None:
    """Take weights and stem from elsewhere; only a head may be missing.

    Raises:
        InputError: weights of another model.
    """
    try:
        missing, unknown = model.load_state_dict(dict(initial), strict=False)
    except RuntimeError as error:
        missing, unknown = [], [str(error).splitlines()[-1].strip()]
    wrong = [*unknown, *(name for name in missing if not name.startswith(("head.", "project_recent.")))]
    if wrong:
        raise InputError(
            f"The initial weights must fit the model; got {wrong[0]}. Use the same `model` settings."
        )


def plan(series: int, settings: TrainingConfig) -> tuple[int, int]:
    """Epochs, and steps an epoch."""
    steps_an_epoch = max(1, series // settings.batch_size)
    if settings.epochs is not None:
        return settings.epochs, steps_an_epoch
    fewest = -(-settings.min_steps // steps_an_epoch)
    most = settings.max_steps // steps_an_epoch
    return max(1, min(max(40, fewest), most)), steps_an_epoch


def task_loss(output: Tensor, target: Tensor, settings: TrainingConfig, weights: Tensor | None) -> Tensor:
    """Cross entropy with smoothed labels, or squared error."""
    if settings.task == "classification":
        return cross_entropy(output, target, weight=weights, label_smoothing=settings.label_smoothing)
    return mse_loss(output.view_as(target), target)


def weight_of(targets: Tensor, weights: Tensor | None) -> Tensor:
    """What these rows weigh in a mean over a batch."""
    return torch.tensor(float(len(targets))) if weights is None else weights[targets].sum()


def update_average(average: dict[str, Tensor], model: torch.nn.Module, step: int, decay: float) -> None:
    """Exponential average of the weights; young averages forget faster."""
    decay = min(decay, (step + 1) / (step + 10))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            average[name].lerp_(parameter, 1.0 - decay)


def with_weights(
    model: SequenceTransformer, weights: dict[str, Tensor], config: RunConfig, facts: DataFacts
) -> SequenceTransformer:
    """A copy of the model with other weights, ready to evaluate."""
    other = build_model(config, facts)
    other.load_state_dict(model.state_dict() | weights)
    return other.eval()
