"""Training on labels: what is minimized, how validation series are watched, and the budget at the end.

Few labels make early stopping a gamble: the default is a fixed schedule, and nothing is held out below 1,000
series.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss

from edgesparse.attention.record import Records, attention_records
from edgesparse.closed_form.fit_recent import fit_recent
from edgesparse.closed_form.fit_skip import SkipReport, check_skip
from edgesparse.config import RunConfig, TrainingConfig
from edgesparse.model.build import build_model
from edgesparse.model.data_facts import DataFacts
from edgesparse.model.forecaster import Forecaster
from edgesparse.model.transformer import SequenceTransformer
from edgesparse.training.augment import augment, shift_in_time
from edgesparse.training.budget import BudgetController, ComputeReport, fit_budget, sparse_layers
from edgesparse.training.consistency import consistency_loss
from edgesparse.training.data import TrainingSet, class_weights, data_facts, evenly_spaced, training_set
from edgesparse.training.evaluation import metric_of, predict
from edgesparse.training.head_stats import as_log_line, head_stats
from edgesparse.training.loop import Batch, Learner, Loss, fit, plan_steps
from edgesparse.training.masked_spans import Reconstruction, hide_tokens
from edgesparse.training.parallel.processes import Processes
from edgesparse.training.run_folder import LOG, write_text
from edgesparse.training.schedule import augmented_share
from edgesparse.training.split import hold_out
from edgesparse.training.stem import STEM_SERIES, choose_stem, fit_model_skip
from edgesparse_runtime.data.channels import check_channels
from edgesparse_runtime.data.forecasting import cut_horizon
from edgesparse_runtime.data.series_set import SeriesSet
from edgesparse_runtime.errors import InputError
from edgesparse_runtime.evaluation.metrics import Metric

# From this many series on, a share is held out by default to watch training.
ENOUGH_TO_HOLD_OUT, HELD_OUT = 1000, 0.1
# A forecaster's are held out earlier: they say whether its transformer is better than a linear forecast.
ENOUGH_TO_COMPARE, COMPARED = 50, 0.2
# Windows that the budget is measured on.
BUDGET_SERIES = 64
# Windows that the heads are measured on, and how many times over a run the log has what they do.
HEAD_SERIES = 8
HEAD_LINES = 20


@dataclass(frozen=True)
class Fitted:
    """A trained model at its budget.

    Attributes:
        config: with the model's sizes chosen.
        training: the windows that the weights were trained on.
        validation: the windows held out; may be empty.
        compute: measured on `watched`.
        skip: what was fitted in closed form; None without a skip.
    """

    model: SequenceTransformer
    config: RunConfig
    facts: DataFacts
    training: TrainingSet
    validation: TrainingSet
    compute: ComputeReport
    skip: SkipReport | None = None

    @property
    def watched(self) -> TrainingSet:
        """Held-out windows where there are any, else those trained on."""
        return self.validation if len(self.validation) else self.training


def fit_labeled(
    data: SeriesSet,
    config: RunConfig,
    out: Path,
    *,
    validation: SeriesSet | None = None,
    resume: bool = False,
    quiet: bool = False,
    initial: Mapping[str, Tensor] | None = None,
    processes: Processes | None = None,
    linear: bool = False,
) -> Fitted:
    """Train on labels and set the budget; the arguments are those of `edgesparse.training.train.train`.

    The log and the checkpoint are in `out` afterwards.

    Args:
        linear: a forecaster stays the linear forecast that it starts as.
    """
    settings, processes = config.training, processes or Processes()
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    check_skip(config)
    data = with_targets(data, settings)
    facts = data_facts(data, settings)
    lengths = data.lengths
    if validation is None:
        data, validation = _split(data, settings)
    else:
        validation = with_targets(check_channels(validation, data.channels), settings)
    training, held = (training_set(part, facts, settings) for part in (data, validation))
    config, tried = choose_stem(config, training, lengths)
    model, auxiliary = _build(training, config, initial, processes)
    starts_linear = isinstance(model, Forecaster) and initial is None
    if starts_linear:
        fit_linear_part(model, training)
    left_out, skip = (
        (None, None) if model.skip is None else fit_model_skip(model, training, settings, tried, quiet=quiet)
    )
    out.mkdir(parents=True, exist_ok=True)
    if linear or not len(model.layers):
        found = {"linear": True} if skip is None else skip.to_dict()
        write_text(out / LOG, json.dumps({"epoch": 0} | found) + "\n")
        compute = fit_budget(model.eval(), torch.split(budget_windows(training), 16), 1.0)
        return Fitted(model, config, facts, training, held, compute, skip)
    trained = model if auxiliary is None else nn.ModuleList([model, auxiliary])
    started_with = {"settings": config.to_dict(), "data": training.fingerprint}
    learner = Learner(trained, model, model, settings, started_with)
    watch = _Watch(learner, model, config, training, held, starts_linear=starts_linear)
    if resume:
        learner.resume(out)
    objective = Supervised(model, auxiliary, learner.controller, training, settings, processes, left_out)
    after = watch.after_epoch
    fit(learner, training, objective, settings, out, after_epoch=after, processes=processes, quiet=quiet)
    final = with_weights(model, watch.best, config, facts)
    watched = budget_windows(held if len(held) else training)
    budget = settings.budget if config.model.attention == "sparse" else 1.0
    compute = fit_budget(final, torch.split(watched, 16), budget, rule=settings.rule)
    return Fitted(final, config, facts, training, held, compute, skip)


def _build(
    data: TrainingSet, config: RunConfig, initial: Mapping[str, Tensor] | None, processes: Processes
) -> tuple[SequenceTransformer, Reconstruction | None]:
    """The model with its stem fitted, and what the long-range task adds to it."""
    torch.manual_seed(config.training.seed)
    model = build_model(config, data.facts)
    if initial is None:
        model.fit_stem(data.sample(STEM_SERIES))
    else:
        load_initial(model, initial)
    processes.prepare(model)
    if not config.training.auxiliary_weight:
        return model, None
    auxiliary = Reconstruction(config.model.width, model.bank.features)
    auxiliary.fit(model, data.sample(STEM_SERIES))
    return model, auxiliary


@torch.no_grad()
def fit_linear_part(model: SequenceTransformer, data: TrainingSet) -> None:
    """Start a forecaster from the best linear forecast of these windows."""
    assert isinstance(model, Forecaster)
    parts = torch.split(torch.arange(len(data)), 256)
    seen = [model.linear_task(data.rows(part), data.targets_B[part]) for part in parts]
    fit_recent(model, *(torch.cat(x) for x in zip(*seen, strict=True)))


def is_linear_forecaster(model: nn.Module) -> bool:
    """Whether a forecaster's transformer adds nothing."""
    return isinstance(model, Forecaster) and not bool(model.head.weight.any())


def budget_windows(data: TrainingSet) -> Tensor:
    """The windows that a budget is measured on."""
    return data.rows(evenly_spaced(len(data), BUDGET_SERIES))


class Supervised:
    """The objective of training on labels.

    The task's loss, the router's, and where they are switched on, reconstruction of masked spans and
    consistency with dense attention.
    """

    def __init__(
        self,
        model: SequenceTransformer,
        auxiliary: Reconstruction | None,
        controller: BudgetController,
        data: TrainingSet,
        settings: TrainingConfig,
        processes: Processes,
        left_out_BK: Tensor | None = None,
    ) -> None:
        # What the skip outputs for a series that it was not fitted to: what the transformer must add to.
        self.left_out_BK = left_out_BK
        self.model, self.auxiliary, self.controller = model, auxiliary, controller
        self.targets_B, self.settings, self.processes = data.targets_B, settings, processes
        self.weights: Tensor | None = None
        if settings.balance_classes:
            self.weights = class_weights(data.targets_B, len(data.facts.classes))

    def __call__(self, batch: Batch) -> Loss:
        processes, settings = self.processes, self.settings
        window_BCT = processes.take(self._augmented(batch))
        mine_B = processes.take(batch.index_B)
        terms = []
        if self.auxiliary is not None:
            hidden_BN = hide_tokens(
                self.model, batch.lengths_B, window_BCT.shape[-1], settings.auxiliary_share
            )
            mine_BN = processes.take(hidden_BN)
            error = processes.mean(
                self.auxiliary(self.model, window_BCT, mine_BN), mine_BN.sum(), hidden_BN.sum()
            )
            terms.append(settings.auxiliary_weight * error)
        with attention_records(self.model) as records:
            if self.left_out_BK is None:
                output = self.model(window_BCT)
            else:
                output = self.left_out_BK[mine_B] + self.model.without_skip(window_BCT)
        loss = task_loss(output, self.targets_B[mine_B], settings, self.weights)
        weight, whole = (_weight_of(self.targets_B[rows], self.weights) for rows in (mine_B, batch.index_B))
        loss = processes.mean(loss, weight, whole)
        router = router_loss(records, processes, batch)
        if self._compares_with_dense(batch.step):
            apart = consistency_loss(
                self.model, window_BCT, output, is_classification=settings.task == "classification"
            )
            apart = processes.mean(apart, len(mine_B), len(batch.index_B))
            terms.append(settings.consistency_weight * apart)
        return Loss(sum(terms, loss + settings.router_weight * router), loss, records)

    def _augmented(self, batch: Batch) -> Tensor:
        settings, window_BCT = self.settings, batch.window_BCT
        if settings.task == "forecasting":
            return window_BCT
        window_BCT = shift_in_time(window_BCT, batch.lengths_B, settings.shift)
        if settings.task == "regression":
            return window_BCT
        return augment(window_BCT, batch.lengths_B, augmented_share(batch.step, batch.steps, settings))

    def _compares_with_dense(self, step: int) -> bool:
        settings = self.settings
        is_due = bool(settings.consistency_weight) and step % settings.consistency_interval == 0
        return is_due and self.controller.target < 1


class _Watch:
    """After each epoch: what the heads do, and the validation metric, which may stop training.

    Attributes:
        best: the running average that is kept: the latest, or with `patience` the best on held-out series. Of
            a forecaster always the best, the linear forecast that it starts as among them.
    """

    def __init__(
        self,
        learner: Learner,
        model: SequenceTransformer,
        config: RunConfig,
        training: TrainingSet,
        held: TrainingSet,
        *,
        starts_linear: bool,
    ) -> None:
        self.learner, self.model, self.config = learner, model, config
        self.facts, self.held = training.facts, held
        self.examined = torch.split(training.sample(HEAD_SERIES), 1)
        epochs = plan_steps(len(training), config.training).epochs
        self.interval = max(1, epochs // HEAD_LINES)
        self.best = learner.average
        learner.state |= {"best": None, "best_epoch": 0}
        self.is_selecting = bool(len(held) and (config.training.patience or starts_linear))
        if self.is_selecting:
            self.best = {name: value.clone() for name, value in learner.average.items()}
            learner.kept["best"] = self.best
        if len(held) and starts_linear:
            learner.state |= {"best": -self._metric().value, "best_epoch": -1}

    def _metric(self) -> Metric:
        """Of the running average, on the held-out series."""
        average = with_weights(self.model, self.learner.average, self.config, self.facts)
        return metric_of(predict(average, self.held), self.held, self.config.training)

    def after_epoch(self, epoch: int, line: dict[str, Any]) -> bool:
        """Add to the log line; True = stop."""
        if (epoch + 1) % self.interval == 0 and sparse_layers(self.model):
            line["heads"] = as_log_line(head_stats(self.model, self.examined))
        if not len(self.held):
            return False
        settings, state = self.config.training, self.learner.state
        metric = self._metric()
        line[f"validation_{metric.name}"] = metric.value
        score = metric.value if settings.task == "classification" else -metric.value
        # A model that is not yet sparse must not win: it is not the one that will be used.
        if sparse_layers(self.model) and self.learner.controller.target > settings.budget:
            return False
        if state["best_epoch"] < 0:
            # What a forecaster starts as stands: patience counts from the first epoch that may win.
            state["best_epoch"] = epoch
        if state["best"] is None or score > state["best"]:
            state |= {"best": score, "best_epoch": epoch}
        if score == state["best"] and self.is_selecting:
            # Of equal scores the later weights are kept, but only a better one extends the patience.
            for name, value in self.learner.average.items():
                self.best[name].copy_(value)
        return bool(settings.patience) and epoch - state["best_epoch"] >= settings.patience


def task_loss(output: Tensor, target: Tensor, settings: TrainingConfig, weights: Tensor | None) -> Tensor:
    """Cross entropy with smoothed labels, or squared error."""
    if settings.task == "classification":
        return cross_entropy(output, target, weight=weights, label_smoothing=settings.label_smoothing)
    return mse_loss(output.view_as(target), target)


def router_loss(records: Records, processes: Processes, batch: Batch) -> Tensor:
    """Sum of the routers' losses in a pass, as a mean over the batch of all processes."""
    losses = [record.router_loss for record in records.values() if record.router_loss is not None]
    rows = len(batch.index_B)
    return processes.mean(sum(losses, torch.zeros(())), len(processes.take(batch.index_B)), rows)


def load_initial(model: SequenceTransformer, initial: Mapping[str, Tensor]) -> None:
    """Copy weights and stem from elsewhere; only a head may be missing.

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


def with_weights(
    model: SequenceTransformer, weights: dict[str, Tensor], config: RunConfig, facts: DataFacts
) -> SequenceTransformer:
    """A copy of the model with other weights, ready to evaluate."""
    other = build_model(config, facts)
    other.load_state_dict(model.state_dict() | weights)
    return other.eval()


def with_targets(data: SeriesSet, settings: TrainingConfig) -> SeriesSet:
    """Forecasting: the last steps of the target channel become the labels."""
    if settings.task != "forecasting":
        return data
    assert settings.horizon is not None
    return cut_horizon(data, settings.target, settings.horizon)


def _split(data: SeriesSet, settings: TrainingConfig) -> tuple[SeriesSet, SeriesSet]:
    share = settings.validation_share
    if share is None:
        enough, share = ENOUGH_TO_HOLD_OUT, HELD_OUT
        if settings.task == "forecasting":
            enough, share = ENOUGH_TO_COMPARE, COMPARED
        share = share if len(data) >= enough else 0.0
    kept, held = hold_out(data, share, seed=settings.seed, in_order=settings.task == "forecasting")
    return data.take(kept), data.take(held)


def _weight_of(targets_B: Tensor, weights: Tensor | None) -> Tensor:
    """Total weight of these rows in a mean over a batch."""
    return torch.tensor(float(len(targets_B))) if weights is None else weights[targets_B].sum()
