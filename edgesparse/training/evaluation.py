"""What a trained model says of labeled series, and how far its scores can be believed."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from edgesparse.config import RunConfig, TrainingConfig
from edgesparse.model.data_facts import DataFacts
from edgesparse.model.transformer import SequenceTransformer
from edgesparse.training.data import to_targets, to_tensor
from edgesparse_runtime.data.series_set import SeriesSet
from edgesparse_runtime.evaluation.metrics import (
    Metric,
    accuracy,
    balanced_accuracy,
    mean_absolute_error,
    recalls,
)


@torch.no_grad()
def predict(model: SequenceTransformer, data: SeriesSet) -> Tensor:
    """The model's output [n, outputs] for every series."""
    windows, lengths = to_tensor(data)
    was_training = model.training
    model.eval()
    rows = torch.split(torch.arange(len(windows)), 32)
    output = torch.cat([model(windows[r, :, : int(lengths[r].max())]) for r in rows])
    model.train(was_training)
    return output


def evaluate(
    model: SequenceTransformer, data: SeriesSet, facts: DataFacts, settings: TrainingConfig
) -> Metric:
    """Accuracy, or mean absolute error in the target's unit."""
    output = predict(model, data)
    targets = to_targets(data, facts, settings)
    if settings.task == "classification":
        return accuracy((output.argmax(-1) == targets).numpy())
    truth = np.asarray(data.labels, dtype=np.float64)
    predicted = output.double().numpy().reshape(truth.shape) * facts.target_scale + facts.target_center
    return mean_absolute_error(truth, predicted)


def by_class(model: SequenceTransformer, data: SeriesSet, facts: DataFacts) -> dict[str, object]:
    """Balanced accuracy, and recall of each class."""
    truth = np.asarray(data.labels, dtype=np.str_)
    decided = np.array(facts.classes)[predict(model, data).argmax(-1).numpy()]
    recall = {name: metric.to_dict() for name, metric in recalls(truth, decided).items()}
    return {"balanced_accuracy": balanced_accuracy(truth, decided).to_dict(), "recall": recall}


def temperature(
    model: SequenceTransformer,
    data: SeriesSet,
    validation: SeriesSet,
    config: RunConfig,
    facts: DataFacts,
    *,
    quiet: bool,
) -> dict[str, object] | None:
    """What `Run.to_scores` divides logits by, with its effect; None = nothing to fit it on."""
    settings = config.training
    if settings.temperature == "none" or (settings.temperature == "held-out" and not len(validation)):
        return None
    from edgesparse.training.temperature import calibrate_scores, cross_fitted_logits

    if settings.temperature == "held-out":
        logits, targets = predict(model, validation), to_targets(validation, facts, settings)
    else:
        logits, targets = cross_fitted_logits(data, config, quiet=quiet)
    found = calibrate_scores(logits, targets, settings.temperature)
    return None if found is None else found.to_dict()
