"""Self-supervised pre-training: learn from unlabeled windows of the same machine to reconstruct masked spans.

The task is that of `edgesparse.training.masked_spans`, with attention dense and the router learning from it.
Everything but the head is kept: the stem, fitted on the unlabeled windows, and the averaged weights. Training
on labels starts from there with its own schedule.

```
RUN/pretraining/checkpoint.safetensors   while it runs; `resume` continues from it
RUN/pretraining/log.jsonl                one line per epoch
RUN/pretraining/weights.safetensors      when it is done, with what was done as metadata
```
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from edgesparse.attention.record import attention_records
from edgesparse.config import RunConfig, TrainingConfig, is_same_config
from edgesparse.inputs import Data, to_config, to_folder, to_series
from edgesparse.model.transformer import SequenceTransformer, choose_sizes
from edgesparse.training.augment import shift_in_time
from edgesparse.training.checkpoint import FILE_NAME, read_tensors, write_tensors
from edgesparse.training.data import Windows, fingerprint, to_windows
from edgesparse.training.loop import Batch, Learner, Loss, fit, plan_steps
from edgesparse.training.masked_spans import Reconstruction, hide_tokens
from edgesparse.training.parallel.processes import Processes
from edgesparse.training.run_folder import Run, save_run
from edgesparse.training.stem import STEM_SERIES
from edgesparse.training.supervised import router_loss
from edgesparse.training.train import train
from edgesparse_runtime.data.channels import check_channels
from edgesparse_runtime.data.series_set import SeriesSet
from edgesparse_runtime.errors import InputError

FOLDER, WEIGHTS = "pretraining", "weights.safetensors"
# One window in so many is held out, to measure the task before and after; at most `MOST_HELD_OUT` are used.
HELD_OUT_EVERY = 10
MOST_HELD_OUT = 64


@dataclass(frozen=True)
class Pretraining:
    """What was done.

    Attributes:
        source: file name of the unlabeled windows.
        series: windows trained on.
        steps: optimizer steps.
        held_out: windows that were not trained on.
        error_before: mean squared error of reconstructing masked spans of those; 1 = predicting the mean.
        error_after: the same with the weights that are kept.
    """

    source: str
    series: int
    steps: int
    held_out: int
    error_before: float
    error_after: float

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def pretrain(
    data: Data,
    config: RunConfig | None = None,
    out: str | PathLike[str] = "",
    *,
    resume: bool = False,
    quiet: bool = False,
    processes: Processes | None = None,
) -> tuple[dict[str, Tensor], Pretraining]:
    """Learn from unlabeled windows.

    Args:
        data: windows of the machine, a file of them, or arrays; labels are ignored.
        config: `training` sets how long and how fast, as it does for labels. Sizes that it leaves open are
            chosen for these windows. None = the default.
        out: the run folder.
        resume: continue from the checkpoint; a finished pre-training is only read.

    Returns:
        Weights for `train(initial=...)`, and what was done.

    Raises:
        InputError: data or paths of another kind, fewer than two windows, or another configuration or other
            data than it was started with.
    """
    config, folder, processes = to_config(config), to_folder(out) / FOLDER, processes or Processes()
    settings = config.training
    data = to_series(data, settings, needs_labels=False)
    if config.model.patch is None or config.model.block_size is None:
        config = replace(config, model=choose_sizes(config.model, [x.shape[1] for x in data.series]))
    started_with = {"settings": config.to_dict(), "data": fingerprint(replace(data, labels=None))}
    if resume and (folder / WEIGHTS).exists():
        return _read(folder, started_with)
    windows, held_out = _split(data)
    model, task = _build(data, windows, config, processes)
    trained = nn.ModuleList([model, task])
    learner = Learner(trained, trained, model, settings, started_with)
    error = partial(reconstruction_error, model, task, held_out, settings.auxiliary_share)
    _start(learner, folder, error, resume=resume)
    objective = partial(_objective, model, task, settings, processes)
    # Attention stays dense.
    dense = replace(settings, budget=1.0)
    fit(learner, windows, objective, dense, folder, title="Pre-training", processes=processes, quiet=quiet)
    trained.load_state_dict(trained.state_dict() | learner.average)
    done = Pretraining(
        source=Path(data.source).name,
        series=len(windows),
        steps=plan_steps(len(windows), settings).steps,
        held_out=len(held_out),
        error_before=learner.state["error_before"],
        error_after=error(),
    )
    weights = _without_head(model)
    if processes.is_main:
        _write(folder, weights, started_with, done)
    processes.wait()
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
    processes: Processes | None = None,
) -> Run:
    """Pre-train on `unlabeled`, then train on `data` from there; the arguments are those of `train`."""
    horizon = config.training.horizon or 0
    config = replace(config, model=choose_sizes(config.model, [x.shape[1] - horizon for x in data.series]))
    unlabeled = check_channels(unlabeled, data.channels)
    weights, done = pretrain(unlabeled, config, out, resume=resume, quiet=quiet, processes=processes)
    # A run that was stopped while it pre-trained has no checkpoint of its own yet.
    resume = resume and (out / FILE_NAME).exists()
    run = train(
        data,
        config,
        out,
        validation=validation,
        resume=resume,
        quiet=quiet,
        initial=weights,
        processes=processes,
    )
    run.report["pretraining"] = done.to_dict()
    if processes is None or processes.is_main:
        save_run(run)
    return run


@torch.no_grad()
def reconstruction_error(
    model: SequenceTransformer, task: Reconstruction, data: Windows, share: float
) -> float:
    """Mean squared error over windows that are not trained on; the same spans each time."""
    windows = data.sample(len(data))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        hidden = hide_tokens(model, data.lengths_B, windows.shape[-1], share)
    was_training = model.training
    model.eval()
    parts = [
        (float(task(model, windows[r], hidden[r])), float(hidden[r].sum()))
        for r in torch.split(torch.arange(len(windows)), 32)
    ]
    model.train(was_training)
    return sum(error * count for error, count in parts) / max(1.0, sum(count for _, count in parts))


def _objective(
    model: SequenceTransformer,
    task: Reconstruction,
    settings: TrainingConfig,
    processes: Processes,
    batch: Batch,
) -> Loss:
    window_BCT = shift_in_time(batch.window_BCT, batch.lengths_B, settings.shift)
    hidden_BN = hide_tokens(model, batch.lengths_B, window_BCT.shape[-1], settings.auxiliary_share)
    mine_BN = processes.take(hidden_BN)
    with attention_records(model) as records:
        error = task(model, processes.take(window_BCT), mine_BN)
    error = processes.mean(error, mine_BN.sum(), hidden_BN.sum())
    total = error + settings.router_weight * router_loss(records, processes, batch)
    return Loss(total, error, records)


def _split(data: SeriesSet) -> tuple[Windows, Windows]:
    """Windows to train on, and those that the task is measured on."""
    if len(data) < 2:
        raise InputError(f"{data.source or 'The data'} must hold at least two windows to pre-train on.")
    is_held_out = np.arange(len(data)) % HELD_OUT_EVERY == min(HELD_OUT_EVERY, len(data)) - 1
    held_out = np.flatnonzero(is_held_out)[:MOST_HELD_OUT]
    return (
        to_windows(data.take(np.flatnonzero(~is_held_out))),
        to_windows(data.take(held_out)),
    )


def _build(
    data: SeriesSet, windows: Windows, config: RunConfig, processes: Processes
) -> tuple[SequenceTransformer, Reconstruction]:
    """The model with its stem fitted, and what the task adds to it."""
    if config.model.layers == 0:
        raise InputError("`layers` must be at least 1 to pre-train: the skip learns from labels alone.")
    if config.training.threads is not None:
        torch.set_num_threads(config.training.threads)
    torch.manual_seed(config.training.seed)
    model = SequenceTransformer(
        config.model,
        channels=len(data.channels),
        outputs=1,
        variable_length=not data.is_equal_length(),
        joint_scale=config.training.task != "forecasting",
    )
    model.fit_stem(windows.sample(STEM_SERIES))
    processes.prepare(model)
    task = Reconstruction(config.model.width, model.bank.features)
    task.fit(model, windows.sample(STEM_SERIES))
    return model, task


def _without_head(model: SequenceTransformer) -> dict[str, Tensor]:
    kept = {name: value for name, value in model.state_dict().items() if not name.startswith("head.")}
    return {name: value.detach().clone().contiguous() for name, value in kept.items()}


def _write(folder: Path, weights: dict[str, Tensor], started_with: dict[str, Any], done: Pretraining) -> None:
    metadata = {"done": json.dumps(done.to_dict()), "started_with": json.dumps(started_with)}
    write_tensors(folder / WEIGHTS, weights, metadata)
    (folder / FILE_NAME).unlink(missing_ok=True)


def _read(folder: Path, started_with: dict[str, Any]) -> tuple[dict[str, Tensor], Pretraining]:
    weights, metadata = read_tensors(folder / WEIGHTS)
    stored = json.loads(metadata.get("started_with", "{}"))
    is_same = is_same_config(stored.get("settings", {}), started_with["settings"])
    if not is_same or stored.get("data") != started_with["data"]:
        raise InputError(
            f"{folder} was started with another configuration or other data. "
            "Resume with the same configuration and data."
        )
    return weights, Pretraining(**json.loads(metadata["done"]))


def _start(learner: Learner, folder: Path, error: Callable[[], float], *, resume: bool) -> None:
    """Continue from the checkpoint, or measure the error before the first step."""
    folder.mkdir(parents=True, exist_ok=True)
    if resume and (folder / FILE_NAME).exists():
        learner.resume(folder)
    else:
        (folder / WEIGHTS).unlink(missing_ok=True)
        learner.state["error_before"] = error()
