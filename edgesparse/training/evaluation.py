"""What a trained model predicts for labeled series, and how well."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from edgesparse.config import TrainingConfig
from edgesparse.model.data_facts import DataFacts
from edgesparse.model.transformer import SequenceTransformer
from edgesparse.training.data import TrainingSet, Windows, training_set
from edgesparse_runtime.data.series_set import SeriesSet
from edgesparse_runtime.evaluation.metrics import (
    Metric,
    accuracy,
    balanced_accuracy,
    mean_absolute_error,
    recalls,
)
from edgesparse_runtime.machine.progress import progress


def evaluate(
    model: SequenceTransformer, data: SeriesSet, facts: DataFacts, settings: TrainingConfig
) -> Metric:
    """Accuracy, or mean absolute error in the target's unit, on labeled series."""
    windows = training_set(data, facts, settings)
    return metric_of(predict(model, windows), windows, settings)


def predict(model: SequenceTransformer, data: Windows, *, quiet: bool = True) -> Tensor:
    """The model's output [n, outputs] for every window; with progress if they stay in their file."""
    with progress("Measuring", len(data), quiet=quiet or not data.is_stored) as bar:
        return run_apart(model, data, model, bar.advance)


@torch.no_grad()
def run_apart(
    model: SequenceTransformer,
    data: Windows,
    compute: Callable[[Tensor], Tensor],
    advance: Callable[[int], None] = lambda _: None,
) -> Tensor:
    """What `compute` makes of every window, [n, ...], with the model in evaluation mode.

    A model that does not mask padding takes it for missing values: lengths run apart, as in
    `Session.predict`.
    """
    was_training = model.training
    model.eval()
    rows = [torch.arange(len(data))]
    if not model.variable_length:
        rows = [torch.nonzero(data.lengths_B == steps)[:, 0] for steps in torch.unique(data.lengths_B)]
    parts = [part for same in rows for part in torch.split(same, 32)]
    found = []
    for part in parts:
        found.append(compute(data.rows(part)))
        advance(len(part))
    output = torch.cat(found)
    model.train(was_training)
    return output[torch.argsort(torch.cat(parts))]


def metric_of(output: Tensor, data: TrainingSet, settings: TrainingConfig) -> Metric:
    """Accuracy, or mean absolute error in the target's unit, of a model's output."""
    if settings.task == "classification":
        return accuracy((output.argmax(-1) == data.targets_B).numpy())
    facts = data.facts
    truth = np.asarray(data.series.labels, dtype=np.float64)
    predicted = output.double().numpy().reshape(truth.shape) * facts.target_scale + facts.target_center
    return mean_absolute_error(truth, predicted)


def by_class(output: Tensor, data: TrainingSet) -> dict[str, object]:
    """Balanced accuracy, and recall of each class."""
    truth = np.asarray(data.series.labels, dtype=np.str_)
    decided = np.array(data.facts.classes)[output.argmax(-1).numpy()]
    recall = {name: metric.to_dict() for name, metric in recalls(truth, decided).items()}
    return {"balanced_accuracy": balanced_accuracy(truth, decided).to_dict(), "recall": recall}
