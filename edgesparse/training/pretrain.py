"""`--pretrain`: learn from unlabeled windows of the same machine first, by reconstructing masked spans.

The task is that of `edgesparse.training.masked_spans`, with attention dense and the router learning from it.
What is kept is everything but the head: the stem, fitted on the unlabeled windows, and the averaged weights.
Training on labels starts from there with its own schedule.

```
RUN/pretraining/checkpoint.safetensors   while it runs; `--resume` goes on from it
RUN/pretraining/log.jsonl                one line an epoch
RUN/pretraining/weights.safetensors      when it is done, with what was done as metadata
```
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from edgesparse.attention.record import attention_records
from edgesparse.config import RunConfig
from edgesparse.model.transformer import SequenceTransformer, choose_sizes
from edgesparse.training.augment import shift_in_time
from edgesparse.training.budget import BudgetController
from edgesparse.training.checkpoint import (
    FILE_NAME,
    load_checkpoint,
    read_tensors,
    save_checkpoint,
    write_tensors,
)
from edgesparse.training.data import spread, to_tensor
from edgesparse.training.loop import CALIBRATION_SERIES, plan, train, update_average
from edgesparse.training.masked_spans import Reconstruction, hide_spans, reach_of_window
from edgesparse.training.processes import Engine
from edgesparse.training.run_folder import LOG, Run, save_run, write_text
from edgesparse.training.schedule import learning_rate
from edgesparse_runtime.data.channels import check_channels
from edgesparse_runtime.data.series_set import SeriesSet
from edgesparse_runtime.errors import InputError
from edgesparse_runtime.progress import progress

FOLDER, WEIGHTS = "pretraining", "weights.safetensors"
# Windows that the task is judged on before and after: one in so many is not trained on.
JUDGED_EVERY = 10
JUDGED = 64


@dataclass(frozen=True)
class Pretraining:
    """What was done.

    Attributes:
        source: file name of the unlabeled windows.
        series: windows trained on.
        steps: taken.
        judged: windows that were not trained on.
        error_before: of reconstructing masked spans of those, mean squared, 1 = saying the mean.
        error_after: the same with the weights that are kept.
    """

    source: str
    series: int
    steps: int
    judged: int
    error_before: float
    error_after: float

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def pretrain(
    data: SeriesSet,
    config: RunConfig,
    out: Path,
    *,
    resume: bool = False,
    quiet: bool = False,
    engine: Engine | None = None,
) -> tuple[dict[str, Tensor], Pretraining]:
    """Learn from unlabeled windows.

    Args:
        data: windows of the machine; labels, if there are any, are not looked at.
        config: with the model's sizes chosen; `training` says how long and how fast, as it does for labels.
        out: the run folder.
        resume: go on from the checkpoint; a finished pre-training is only read.

    Returns:
        Weights for `train(initial=...)`, and what was done.

    Raises:
        InputError: fewer than two windows, or another configuration than the one that it began with.
    """
    settings, engine = config.training, engine or Engine()
    folder = out / FOLDER
    started_with = config.to_dict() | {"data": Path(data.source).name}
    if resume and (folder / WEIGHTS).exists():
        return _read(folder, started_with)
    if len(data) < 2:
        raise InputError(f"{data.source or 'The data'} must hold at least two windows to pre-train on.")
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    torch.manual_seed(settings.seed)
    judged = np.arange(len(data)) % JUDGED_EVERY == min(JUDGED_EVERY, len(data)) - 1
    windows, lengths = to_tensor(data.take(np.flatnonzero(~judged)))
    watched = to_tensor(data.take(np.flatnonzero(judged)[:JUDGED]))
    model = SequenceTransformer(
        config.model,
        channels=len(data.channels),
        outputs=1,
        variable_length=not data.is_equal_length(),
        joint_scale=settings.task != "forecasting",
    )
    model.fit_stem(windows[spread(len(windows), CALIBRATION_SERIES)])
    engine.prepare(model)
    task = Reconstruction(config.model.width, model.bank.features)
    task.fit(model, windows[spread(len(windows), CALIBRATION_SERIES)])
    learner = nn.ModuleList([model, task])
    optimizer = torch.optim.AdamW(
        learner.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
    )
    # Attention stays dense: the controller's target is 1.
    BudgetController(model)
    epochs, steps_an_epoch = plan(len(windows), settings)
    steps = epochs * steps_an_epoch
    average = {name: p.detach().clone() for name, p in learner.named_parameters()}
    state: dict[str, Any] = {"epoch": 0, "settings": started_with}
    folder.mkdir(parents=True, exist_ok=True)
    if resume and (folder / FILE_NAME).exists():
        state = load_checkpoint(folder, learner, average, optimizer)
        _check_same(folder, state["settings"], started_with)
        if engine.is_main:
            lines = (folder / LOG).read_text(encoding="utf-8").splitlines(keepends=True)
            write_text(folder / LOG, "".join(lines[: state["epoch"]]))
    elif engine.is_main:
        for name in (LOG, WEIGHTS, FILE_NAME):
            (folder / name).unlink(missing_ok=True)
    if not state["epoch"]:
        state["error_before"] = judge(model, task, watched, settings.auxiliary_share)
    with progress(
        "Pre-training", steps, start=state["epoch"] * steps_an_epoch, quiet=quiet or not engine.is_main
    ) as bar:
        for epoch in range(state["epoch"], epochs):
            # Each epoch's randomness depends on its number alone: a resumed run repeats it.
            torch.manual_seed(settings.seed * 100_003 + epoch)
            order = torch.randperm(len(windows))
            losses = []
            learner.train()
            for i in range(steps_an_epoch):
                step = epoch * steps_an_epoch + i
                for group in optimizer.param_groups:
                    group["lr"] = learning_rate(step, steps, settings.learning_rate)
                rows = order[i * settings.batch_size : (i + 1) * settings.batch_size]
                batch = windows[rows, :, : int(lengths[rows].max())]
                batch = engine.take(shift_in_time(batch, lengths[rows], settings.shift))
                hidden = hide(model, lengths[rows], batch.shape[-1], settings.auxiliary_share)
                with attention_records(model) as records:
                    error = task(model, batch, engine.take(hidden))
                error = engine.mean(error, engine.take(hidden).sum(), hidden.sum())
                router = [r.router_loss for r in records.values() if r.router_loss is not None]
                taught = engine.mean(sum(router, torch.zeros(())), len(batch), len(rows))
                optimizer.zero_grad()
                (error + settings.router_weight * taught).backward()  # type: ignore[no-untyped-call]
                engine.average_gradients(learner.parameters())
                nn.utils.clip_grad_norm_(learner.parameters(), 1.0)
                optimizer.step()
                update_average(average, learner, step, settings.average_decay)
                losses.append(float(engine.sum(error.detach())) / engine.processes)
                bar.advance(1, note=f"error {losses[-1]:.3f}")
            state["epoch"] = epoch + 1
            if engine.is_main:
                with (folder / LOG).open("a", encoding="utf-8") as log:
                    log.write(json.dumps({"epoch": epoch + 1, "error": float(np.mean(losses))}) + "\n")
                save_checkpoint(folder, learner, average, optimizer, state)
            engine.wait()
    learner.load_state_dict(learner.state_dict() | average)
    done = Pretraining(
        source=Path(data.source).name,
        series=len(windows),
        steps=steps,
        judged=len(watched[0]),
        error_before=state["error_before"],
        error_after=judge(model, task, watched, settings.auxiliary_share),
    )
    weights = {
        name: value.detach().clone().contiguous()
        for name, value in model.state_dict().items()
        if not name.startswith("head.")
    }
    if engine.is_main:
        metadata = {"done": json.dumps(done.to_dict()), "settings": json.dumps(started_with)}
        write_tensors(folder / WEIGHTS, weights, metadata)
        (folder / FILE_NAME).unlink(missing_ok=True)
    engine.wait()
    return weights, done


def train_from_unlabeled(
    data: SeriesSet,
    unlabeled: SeriesSet,
    config: RunConfig,
    out: Path,
    *,
    validation: SeriesSet | None = None,
    resume: bool = False,
    quiet: bool = False,
    engine: Engine | None = None,
) -> Run:
    """Pre-train on `unlabeled`, then train on `data` from there; the arguments are those of `train`."""
    horizon = config.training.horizon or 0
    config = replace(config, model=choose_sizes(config.model, [x.shape[1] - horizon for x in data.series]))
    unlabeled = check_channels(unlabeled, data.channels)
    weights, done = pretrain(unlabeled, config, out, resume=resume, quiet=quiet, engine=engine)
    # A run that was stopped while it pre-trained has no checkpoint of its own yet.
    resume = resume and (out / FILE_NAME).exists()
    run = train(
        data, config, out, validation=validation, resume=resume, quiet=quiet, initial=weights, engine=engine
    )
    run = replace(run, report=run.report | {"pretraining": done.to_dict()})
    if engine is None or engine.is_main:
        save_run(run)
    return run


def hide(model: SequenceTransformer, lengths_B: Tensor, steps: int, share: float) -> Tensor:
    """Tokens to hide [B, N], real ones only."""
    tokens = model.token_count(steps)
    hidden = hide_spans(len(lengths_B), tokens, longer_than=reach_of_window(model), share=share)
    return hidden & (torch.arange(tokens) < -(-lengths_B[:, None] // model.patch))


@torch.no_grad()
def judge(
    model: SequenceTransformer, task: Reconstruction, watched: tuple[Tensor, Tensor], share: float
) -> float:
    """Mean squared error on windows that are not trained on; the same spans each time."""
    windows, lengths = watched
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        hidden = hide(model, lengths, windows.shape[-1], share)
    was_training = model.training
    model.eval()
    parts = [
        (float(task(model, windows[r], hidden[r])), float(hidden[r].sum()))
        for r in torch.split(torch.arange(len(windows)), 32)
    ]
    model.train(was_training)
    return sum(error * count for error, count in parts) / max(1.0, sum(count for _, count in parts))


def _read(folder: Path, started_with: dict[str, Any]) -> tuple[dict[str, Tensor], Pretraining]:
    weights, metadata = read_tensors(folder / WEIGHTS)
    _check_same(folder, json.loads(metadata["settings"]), started_with)
    return weights, Pretraining(**json.loads(metadata["done"]))


def _check_same(folder: Path, known: dict[str, Any], wanted: dict[str, Any]) -> None:
    if known != wanted:
        raise InputError(f"{folder} was started with another configuration or data. Resume with the same.")
