"""Cross-fitting: every series scored by a model that was trained without it."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from edgesparse.config import RunConfig
from edgesparse.training.data import data_facts, to_targets, training_set
from edgesparse.training.evaluation import predict
from edgesparse.training.supervised import fit_labeled
from edgesparse_runtime.data.series_set import SeriesSet

FOLDS = 4


def cross_fitted_logits(data: SeriesSet, config: RunConfig, *, quiet: bool) -> tuple[Tensor, Tensor]:
    """Logits [n, classes] of series by models that did not see them, and the targets [n].

    Trains `FOLDS` more times. A series whose class occurs in its own fold only is left out.
    """
    settings = replace(config.training, validation_share=0.0, patience=0)
    facts = data_facts(data, settings)
    logits, targets = [], []
    for fold in folds(data, settings.seed):
        rest = np.setdiff1d(np.arange(len(data)), fold)
        assert data.labels is not None
        known = np.unique(data.labels[rest])
        fold = fold[np.isin(data.labels[fold], known)]
        if len(known) < 2 or not len(fold):
            continue
        with tempfile.TemporaryDirectory() as folder:
            fitted = fit_labeled(
                data.take(rest), replace(config, training=settings), Path(folder), quiet=quiet
            )
        held = data.take(fold)
        # A class that this fold's model does not know gets no share.
        found = torch.full((len(fold), len(facts.classes)), -30.0)
        places = torch.tensor([facts.classes.index(name) for name in fitted.facts.classes])
        found[:, places] = predict(fitted.model, training_set(held, fitted.facts, settings))
        logits.append(found)
        targets.append(to_targets(held, facts, settings))
    if not logits:
        return torch.zeros(0, len(facts.classes)), torch.zeros(0, dtype=torch.int64)
    return torch.cat(logits), torch.cat(targets)


def folds(data: SeriesSet, seed: int) -> list[npt.NDArray[np.int64]]:
    """Indices of each fold: whole groups where there are several, else every class spread over the folds."""
    rng = np.random.default_rng(seed)
    keys = data.groups if data.groups is not None and len(np.unique(data.groups)) > 1 else None
    number = np.zeros(len(data), dtype=np.int64)
    if keys is not None:
        names = rng.permutation(np.unique(keys))
        for i, name in enumerate(names):
            number[keys == name] = i % FOLDS
    else:
        assert data.labels is not None
        for label in np.unique(data.labels):
            index = rng.permutation(np.flatnonzero(data.labels == label))
            number[index] = (np.arange(len(index)) + int(rng.integers(FOLDS))) % FOLDS
    return [np.flatnonzero(number == fold) for fold in range(FOLDS)]
