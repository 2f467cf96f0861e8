"""The training loop, shared by training on labels and by pre-training; it reads top to bottom.

What is minimized is an `objective(batch)`. Attention is dense first, while the router learns from it, then
narrows to the budget and stays there, so that training ends at the rule that inference uses. The weights
that are kept are a running average.

Shapes: `B` rows of a batch, `C` channels, `T` steps.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from edgesparse.attention.record import Records
from edgesparse.config import TrainingConfig, is_same_config
from edgesparse.training.budget import BudgetController
from edgesparse.training.checkpoint import load_checkpoint, save_checkpoint
from edgesparse.training.data import Windows
from edgesparse.training.parallel.processes import Processes
from edgesparse.training.run_folder import LOG, write_text
from edgesparse.training.schedule import attention_share, learning_rate
from edgesparse_runtime.errors import InputError
from edgesparse_runtime.machine.progress import progress


@dataclass(frozen=True)
class Plan:
    """How long a run is: `epochs` passes of `steps_per_epoch` optimizer steps."""

    epochs: int
    steps_per_epoch: int

    @property
    def steps(self) -> int:
        return self.epochs * self.steps_per_epoch


@dataclass(frozen=True)
class Batch:
    """One step's rows, over all processes.

    Attributes:
        step: number of the step, from 0, and
        steps: of all steps.
        index_B: which windows these are.
        window_BCT: as they are in the data set: what is random is drawn by the objective.
        lengths_B: steps of each window without padding.
    """

    step: int
    steps: int
    index_B: Tensor
    window_BCT: Tensor
    lengths_B: Tensor


@dataclass(frozen=True)
class Loss:
    """What an objective returns.

    Attributes:
        total: what is minimized.
        logged: the part of it that is shown.
        records: of the attention layers, in the pass whose compute is held at the budget.
    """

    total: Tensor
    logged: Tensor
    records: Records


Objective = Callable[[Batch], Loss]
# Is handed the epoch and its log line, may add to the line, and returns True to stop training.
AfterEpoch = Callable[[int, dict[str, Any]], bool]


class Learner:
    """What changes in training: weights, optimizer, budget, averages, and what else a checkpoint keeps.

    Args:
        trained: all modules whose weights are trained.
        averaged: the one of them whose running average is kept.
        model: the one with the attention layers.
        started_with: configuration and data; a run resumes with the same only.
    """

    def __init__(
        self,
        trained: nn.Module,
        averaged: nn.Module,
        model: nn.Module,
        settings: TrainingConfig,
        started_with: Mapping[str, Any],
    ) -> None:
        self.trained, self.averaged = trained, averaged
        self.optimizer = torch.optim.AdamW(
            trained.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
        self.controller = BudgetController(model, settings.rule)
        self.average = {name: p.detach().clone() for name, p in averaged.named_parameters()}
        # Further averages that a checkpoint must keep, by prefix.
        self.kept: dict[str, dict[str, Tensor]] = {}
        self.started_with = dict(started_with)
        self.state: dict[str, Any] = {"epoch": 0}

    def save(self, folder: Path) -> None:
        """Write the checkpoint."""
        self.state["controller"] = self.controller.state()
        state = self.started_with | self.state
        save_checkpoint(folder, self.trained, self._averages(), self.optimizer, state)

    def resume(self, folder: Path) -> None:
        """Continue from the checkpoint.

        Raises:
            InputError: no checkpoint, or one of another model, configuration or data.
        """
        state = load_checkpoint(folder, self.trained, self._averages(), self.optimizer)
        is_same = is_same_config(state.pop("settings", {}), self.started_with["settings"])
        has_same_data = state.pop("data", None) == self.started_with["data"]
        if not (is_same and has_same_data):
            what = "other data" if is_same else "another configuration"
            raise InputError(
                f"{folder} was started with {what}. Resume with the same configuration and data."
            )
        self.controller.load_state(state["controller"])
        self.state = state

    def _averages(self) -> dict[str, Tensor]:
        further = {f"{prefix}.{name}": w for prefix, kept in self.kept.items() for name, w in kept.items()}
        return self.average | further


def fit(
    learner: Learner,
    data: Windows,
    objective: Objective,
    settings: TrainingConfig,
    folder: Path,
    *,
    title: str = "Training",
    after_epoch: AfterEpoch = lambda epoch, line: False,
    processes: Processes,
    quiet: bool,
) -> None:
    """Train until the plan's last epoch or until `after_epoch` stops it; a checkpoint after each epoch."""
    plan, is_main = plan_steps(len(data), settings), processes.is_main
    begin: int = learner.state["epoch"]
    if is_main:
        _keep_log_lines(folder, begin)
    done = begin * plan.steps_per_epoch
    with progress(title, plan.steps, start=done, quiet=quiet or not is_main) as bar:
        for epoch in range(begin, plan.epochs):
            learner.trained.train()
            losses, shares = [], []
            for batch in batches(data, plan, epoch, settings):
                loss, share = take_step(learner, batch, objective, settings, processes)
                losses.append(loss)
                shares.append(share)
                bar.advance(1, note=f"loss {loss:.3f}, attention {share:.0%}")
            line = {"epoch": epoch + 1, "loss": float(np.mean(losses))}
            line["attention_share"] = float(np.mean(shares))
            stop = after_epoch(epoch, line)
            learner.state["epoch"] = epoch + 1
            if is_main:
                with (folder / LOG).open("a", encoding="utf-8") as log:
                    log.write(json.dumps(line) + "\n")
                learner.save(folder)
            if processes.agree(stop):
                break


def batches(data: Windows, plan: Plan, epoch: int, settings: TrainingConfig) -> Iterator[Batch]:
    """The windows of one epoch in random order; the rest that fills no batch is left out."""
    # An epoch's randomness depends on its number alone: a resumed run repeats it.
    torch.manual_seed(settings.seed * 100_003 + epoch)
    order = torch.randperm(len(data))
    for i in range(plan.steps_per_epoch):
        index = order[i * settings.batch_size : (i + 1) * settings.batch_size]
        step = epoch * plan.steps_per_epoch + i
        yield Batch(step, plan.steps, index, data.rows(index), data.lengths_B[index])


def take_step(
    learner: Learner, batch: Batch, objective: Objective, settings: TrainingConfig, processes: Processes
) -> tuple[float, float]:
    """One optimizer step; returns the loss and the share of dense attention's compute that it took.

    Raises:
        InputError: the loss is not finite.
    """
    learner.controller.set_target(attention_share(batch.step, batch.steps, settings))
    for group in learner.optimizer.param_groups:
        group["lr"] = learning_rate(batch.step, batch.steps, settings.learning_rate)
    loss = objective(batch)
    learner.optimizer.zero_grad()
    loss.total.backward()  # type: ignore[no-untyped-call]
    processes.average_gradients(learner.trained.parameters())
    nn.utils.clip_grad_norm_(learner.trained.parameters(), 1.0)
    learner.optimizer.step()
    share = learner.controller.update(loss.records, processes.sum)
    update_average(learner.average, learner.averaged, batch.step, settings.average_decay)
    logged = float(processes.sum(loss.logged.detach())) / processes.count
    if not math.isfinite(logged):
        raise InputError(
            f"The loss must stay finite; got {logged} at step {batch.step + 1}. "
            f"Try a lower training.learning_rate than {settings.learning_rate:g}."
        )
    return logged, share


def plan_steps(series: int, settings: TrainingConfig) -> Plan:
    """The epochs that were set, or 40 within the bounds on steps."""
    steps_per_epoch = max(1, series // settings.batch_size)
    if settings.epochs is not None:
        return Plan(settings.epochs, steps_per_epoch)
    fewest = -(-settings.min_steps // steps_per_epoch)
    most = settings.max_steps // steps_per_epoch
    return Plan(max(1, min(max(40, fewest), most)), steps_per_epoch)


def update_average(average: dict[str, Tensor], model: nn.Module, step: int, decay: float) -> None:
    """Exponential average of the weights; young averages forget faster."""
    decay = min(decay, (step + 1) / (step + 10))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            average[name].lerp_(parameter, 1.0 - decay)


def _keep_log_lines(folder: Path, epochs: int) -> None:
    """A run killed between its log and its checkpoint has logged an epoch that it will repeat."""
    log = folder / LOG
    if not epochs:
        log.unlink(missing_ok=True)
        return
    lines = log.read_text(encoding="utf-8").splitlines(keepends=True)
    write_text(log, "".join(lines[:epochs]))
