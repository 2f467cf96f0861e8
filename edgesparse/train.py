"""The training loop: reads top to bottom.

Dense attention first, while the router learns from it; then attention narrows to the budget over the first
third of the steps and stays there, so that training ends at the rule that serving uses. The weights that
are kept are a running average. Few labels make early stopping a gamble: the default is a fixed schedule,
and no label is held out below 500 series.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, mse_loss

from edgesparse.augment import shift_in_time
from edgesparse.budget import BudgetController, calibrate, sparse_layers
from edgesparse.checkpoint import FILE_NAME, load_checkpoint, save_checkpoint
from edgesparse.config import RunConfig, TrainingConfig
from edgesparse.model import SequenceTransformer, choose_sizes, count_parameters, typical_steps
from edgesparse.run_folder import LOG, DataFacts, Run, build_model, save_run
from edgesparse.schedule import attention_share, learning_rate
from edgesparse.split import hold_out
from edgesparse_runtime.errors import InputError
from edgesparse_runtime.metrics import Metric, accuracy, mean_absolute_error
from edgesparse_runtime.progress import progress
from edgesparse_runtime.series_set import SeriesSet

# From this many series on, a share is held out by default to watch training.
ENOUGH_TO_HOLD_OUT = 500
# Windows that normalisation and thresholds are learned on, and that the budget is measured on.
CALIBRATION_SERIES = 256
BUDGET_SERIES = 64


def train(
    data: SeriesSet,
    config: RunConfig,
    out: Path,
    *,
    validation: SeriesSet | None = None,
    resume: bool = False,
    quiet: bool = False,
) -> Run:
    """Train a model on labelled series and write a run folder.

    Args:
        data: labelled series.
        validation: labelled series to watch training with; None = `config.training.validation_share`.
        resume: go on from the checkpoint in `out`; on the same machine the weights end up the same.
        quiet: no progress.

    Raises:
        InputError: no labels, one class only, too few steps.
    """
    settings = config.training
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    facts = data_facts(data, settings)
    config = replace(config, model=choose_sizes(config.model, typical_steps(x.shape[1] for x in data.series)))
    if validation is None:
        share = settings.validation_share
        if share is None:
            share = 0.2 if len(data) >= ENOUGH_TO_HOLD_OUT else 0.0
        kept, held = hold_out(data, share, seed=settings.seed)
        data, validation = data.take(kept), data.take(held)
    torch.manual_seed(settings.seed)
    windows, lengths = to_tensor(data)
    targets = to_targets(data, facts, settings)
    model = build_model(config, facts)
    model.fit_stem(windows[_spread(len(windows), CALIBRATION_SERIES)])
    epochs, steps_an_epoch = plan(len(data), settings)
    steps = epochs * steps_an_epoch
    weights = class_weights(targets, len(facts.classes)) if settings.balance_classes else None
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
    )
    controller = BudgetController(model)
    average = {name: p.detach().clone() for name, p in model.named_parameters()}
    state: dict[str, Any] = {"epoch": 0, "best": None, "best_epoch": 0, "settings": config.to_dict()}
    out.mkdir(parents=True, exist_ok=True)
    if resume:
        state = load_checkpoint(out, model, average, optimizer)
        if state["settings"] != config.to_dict():
            raise InputError(f"{out} was started with another configuration. Resume with the same one.")
        controller.load_state(state["controller"])
    else:
        (out / LOG).unlink(missing_ok=True)
    best_average = {name: value.clone() for name, value in average.items()} if len(validation) else average

    with progress("Training", steps, start=state["epoch"] * steps_an_epoch, quiet=quiet) as bar:
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
                batch = shift_in_time(batch, lengths[rows], settings.shift)
                loss = task_loss(model(batch), targets[rows], settings, weights)
                router = [
                    layer.router_loss for layer in sparse_layers(model) if layer.router_loss is not None
                ]
                total = loss + settings.router_weight * sum(router, torch.zeros(()))
                optimizer.zero_grad()
                total.backward()  # type: ignore[no-untyped-call]
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                shares.append(controller.update())
                update_average(average, model, step, settings.average_decay)
                losses.append(float(loss.detach()))
                bar.advance(1, note=f"loss {losses[-1]:.3f}, attention {shares[-1]:.0%}")
            line: dict[str, Any] = {
                "epoch": epoch + 1,
                "loss": float(np.mean(losses)),
                "attention_share": float(np.mean(shares)),
            }
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
                    for name, value in average.items():
                        best_average[name].copy_(value)
                stop = (
                    bool(settings.patience) and epoch - state["best_epoch"] >= settings.patience and may_win
                )
            with (out / LOG).open("a", encoding="utf-8") as log:
                log.write(json.dumps(line) + "\n")
            state |= {"epoch": epoch + 1, "controller": controller.state()}
            save_checkpoint(out, model, average, optimizer, state)
            if stop:
                break
    final = with_weights(model, best_average if settings.patience else average, config, facts)
    return finish(final, data, validation, config, facts, out)


def finish(
    model: SequenceTransformer,
    data: SeriesSet,
    validation: SeriesSet,
    config: RunConfig,
    facts: DataFacts,
    out: Path,
) -> Run:
    """Set the budget on data, measure, and write the run folder."""
    measured_on = validation if len(validation) else data
    chosen = measured_on.take(_spread(len(measured_on), BUDGET_SERIES).numpy())
    batches = list(torch.split(to_tensor(chosen)[0], 16))
    budget = config.training.budget if config.model.attention == "sparse" else 1.0
    compute = calibrate(model, batches, budget)
    report: dict[str, Any] = {
        "parameters": count_parameters(model),
        "budget": budget if config.model.attention == "sparse" else None,
        "compute": compute.to_dict() | {"measured_on": "validation" if len(validation) else "training"},
        "metrics": {},
    }
    for name, series in (("training", data), ("validation", validation)):
        if len(series):
            metric = evaluate(model, series, facts, config.training)
            report["metrics"][name] = metric.to_dict()
    run = Run(out, config, facts, model.eval(), report)
    save_run(run)
    (out / FILE_NAME).unlink(missing_ok=True)
    return run


def data_facts(data: SeriesSet, settings: TrainingConfig) -> DataFacts:
    """What the data say about the model that fits them."""
    source = data.source or "The data"
    if data.labels is None:
        raise InputError(f"{source} must have labels to train on; there is no label column.")
    if not len(data):
        raise InputError(f"{source} must hold at least one series; there is none.")
    lengths = [x.shape[1] for x in data.series]
    classes: list[str] = []
    center, scale = 0.0, 1.0
    if settings.task == "classification":
        classes = [str(c) for c in np.unique(data.labels)]
        if len(classes) < 2:
            raise InputError(f"{source} must hold at least two classes; there is only {classes[0]}.")
    else:
        try:
            values = np.asarray(data.labels, dtype=np.float64)
        except ValueError:
            raise InputError(f"{source} must have numbers as labels for regression.") from None
        center, scale = float(values.mean()), float(values.std()) or 1.0
    return DataFacts(
        source=Path(data.source).name,
        channels=list(data.channels),
        classes=classes,
        variable_length=not data.is_equal_length(),
        shortest=min(lengths),
        longest=max(lengths),
        series=len(data),
        target_center=center,
        target_scale=scale,
    )


def plan(series: int, settings: TrainingConfig) -> tuple[int, int]:
    """Epochs, and steps an epoch."""
    steps_an_epoch = max(1, series // settings.batch_size)
    if settings.epochs is not None:
        return settings.epochs, steps_an_epoch
    fewest = -(-settings.steps_at_least // steps_an_epoch)
    most = settings.steps_at_most // steps_an_epoch
    return max(1, min(max(40, fewest), most)), steps_an_epoch


def to_tensor(data: SeriesSet) -> tuple[Tensor, Tensor]:
    """Windows [n, C, T] with NaN tails, and lengths [n]."""
    lengths = torch.tensor([x.shape[1] for x in data.series])
    return torch.from_numpy(data.to_batch()), lengths


def to_targets(data: SeriesSet, facts: DataFacts, settings: TrainingConfig) -> Tensor:
    """Class numbers [n], or standardised targets [n]."""
    assert data.labels is not None
    if settings.task == "classification":
        number = {name: i for i, name in enumerate(facts.classes)}
        unknown = sorted({str(label) for label in data.labels} - set(number))
        if unknown:
            raise InputError(f"{data.source} must hold known classes only; got {', '.join(unknown[:3])}.")
        return torch.tensor([number[str(label)] for label in data.labels])
    values = np.asarray(data.labels, dtype=np.float64)
    return torch.from_numpy(((values - facts.target_center) / facts.target_scale).astype(np.float32))


def class_weights(targets: Tensor, classes: int) -> Tensor | None:
    """Root of each class's rarity, mean 1 over the series; None for regression and for equal classes."""
    if not classes:
        return None
    counts = torch.bincount(targets, minlength=classes).clamp(min=1).float()
    if counts.max() <= 1.5 * counts.min():
        return None
    weights = counts.rsqrt()
    return weights / weights[targets].mean()


def task_loss(output: Tensor, target: Tensor, settings: TrainingConfig, weights: Tensor | None) -> Tensor:
    """Cross entropy with smoothed labels, or squared error."""
    if settings.task == "classification":
        return cross_entropy(output, target, weight=weights, label_smoothing=settings.label_smoothing)
    return mse_loss(output[:, 0], target)


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


@torch.no_grad()
def evaluate(
    model: SequenceTransformer, data: SeriesSet, facts: DataFacts, settings: TrainingConfig
) -> Metric:
    """Accuracy, or mean absolute error in the target's unit."""
    windows, lengths = to_tensor(data)
    was_training = model.training
    model.eval()
    rows = torch.split(torch.arange(len(windows)), 32)
    output = torch.cat([model(windows[r, :, : int(lengths[r].max())]) for r in rows])
    model.train(was_training)
    targets = to_targets(data, facts, settings)
    if settings.task == "classification":
        return accuracy((output.argmax(-1) == targets).numpy())
    predicted = output[:, 0].double().numpy() * facts.target_scale + facts.target_center
    return mean_absolute_error(np.asarray(data.labels, dtype=np.float64), predicted)


def _spread(n: int, most: int) -> Tensor:
    """At most `most` of n indices, evenly spread."""
    return torch.arange(n) if n <= most else torch.linspace(0, n - 1, most).long()
