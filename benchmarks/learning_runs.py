"""One result of the learning benchmark: a model trained on a set and judged on its test series.

A result is a small JSON file named by everything that decides it, the code version included, so that a run
that was stopped goes on where it was and never mixes two versions of the code.
"""

from __future__ import annotations

import hashlib
import json
import math
import tempfile
import time
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import long_range
from benchmarks.learning_data import load, subsample
from edgesparse.config import RunConfig, resolve_config
from edgesparse.model import SequenceTransformer, choose_sizes, count_parameters
from edgesparse.train import to_targets, to_tensor, train
from edgesparse_runtime.series_set import SeriesSet

BUDGET = 0.25
STORE = Path("bench-results/learning")
# Made tasks: training and test series.
MADE = (2000, 500)
# What a variant of the sparse model changes; the band has its own rule below.
VARIANTS: dict[str, tuple[str, ...]] = {
    "dense": ("model.attention=dense",),
    "sparse": (),
    "unlearned router": ("training.router_weight=0.0",),
    "no summaries": ("model.summaries=false",),
    "no value convolution": ("model.value_kernel=0",),
    "no attention beyond the block": ("model.summaries=false", "training.budget=0.01"),
}


@dataclass(frozen=True)
class Task:
    """What is trained on what.

    Attributes:
        dataset: a name of `learning_data.load`, or TASK:STEPS of `long_range.make`.
        model: a key of `VARIANTS`, "band" or "minirocket".
        labels: share of the training labels that is used.
        seed: of the training, and of which labels are left.
    """

    dataset: str
    model: str
    labels: float = 1.0
    seed: int = 0

    @property
    def path(self) -> Path:
        text = json.dumps([code_version(), asdict(self)])
        return STORE / f"{hashlib.sha256(text.encode()).hexdigest()[:20]}.json"

    def stored(self) -> dict[str, Any] | None:
        return json.loads(self.path.read_text()) if self.path.exists() else None


_VERSION: list[str] = []


def code_version() -> str:
    """Changes with every line of the trainer and of the benchmark's data."""
    if not _VERSION:
        digest = hashlib.sha256()
        root = Path(__file__).parent
        sources = [
            *(root.parent / "edgesparse").glob("*.py"),
            root / "long_range.py",
            root / "learning_data.py",
        ]
        for path in sorted(sources):
            digest.update(path.read_bytes())
        _VERSION.append(digest.hexdigest()[:12])
    return _VERSION[0]


def run(task: Task) -> dict[str, Any]:
    """Train, judge, store; a stored result is returned as it is."""
    found = task.stored()
    if found is not None:
        return found
    torch.set_num_threads(1)
    training, test = data(task)
    start = time.monotonic()
    judged = _minirocket(task, training, test) if task.model == "minirocket" else _ours(task, training, test)
    correct = judged.pop("correct")
    result = asdict(task) | {
        "code": code_version(),
        "training_series": len(training),
        "n": len(test),
        "accuracy": float(np.mean(correct)),
        "correct": np.packbits(correct).tobytes().hex(),
        "seconds": round(time.monotonic() - start, 1),
        **judged,
    }
    STORE.mkdir(parents=True, exist_ok=True)
    staging = task.path.with_suffix(".new")
    staging.write_text(json.dumps(result) + "\n")
    staging.replace(task.path)
    return result


def data(task: Task) -> tuple[SeriesSet, SeriesSet]:
    """Training series, cut to the share of labels, and test series."""
    name, _, steps = task.dataset.partition(":")
    if steps:
        whole = long_range.make(name, int(steps), sum(MADE), seed=0)
        training, test = whole.take(range(MADE[0])), whole.take(range(MADE[0], sum(MADE)))
    else:
        training, test = load(task.dataset)
    if task.labels < 1.0:
        training = subsample(training, max(2, round(task.labels * len(training))), seed=task.seed)
    return training, test


def settings(task: Task, training: SeriesSet) -> RunConfig:
    """The default recipe with what the variant changes; made tasks differ in nothing but a patch of 8."""
    changes = [f"training.budget={BUDGET}", f"training.seed={task.seed}"]
    if ":" in task.dataset:
        changes.append("model.patch=8")
    if task.model == "band":
        sizes = choose_sizes(
            resolve_config(RunConfig(), None, changes).model, max(x.shape[1] for x in training.series)
        )
        assert sizes.patch and sizes.block_size
        longest = max(x.shape[1] for x in training.series)
        blocks = math.ceil(math.ceil(longest / sizes.patch) / sizes.block_size)
        window = max(0, round((BUDGET * blocks - 1) / 2))
        changes += [f"model.window={window}", "model.summaries=false", "training.budget=0.01"]
    else:
        changes += VARIANTS[task.model]
    return resolve_config(RunConfig(), None, changes)


def _ours(task: Task, training: SeriesSet, test: SeriesSet) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        trained = train(training, settings(task, training), Path(folder) / "run", quiet=True)
    seconds = time.monotonic()
    predicted = predict(trained.model, test)
    compute = trained.report["compute"]
    return {
        "correct": predicted == to_targets(test, trained.facts, trained.config.training).numpy(),
        "parameters": count_parameters(trained.model),
        "attention_share": compute["attention_share"],
        "density": compute["density"],
        "model_share": compute["model_share"],
        "predict_ms": round(1e3 * (time.monotonic() - seconds) / len(test), 3),
    }


@torch.no_grad()
def predict(model: SequenceTransformer, test: SeriesSet) -> Any:
    """Class numbers [n]."""
    model.eval()
    windows, lengths = to_tensor(test)
    rows = torch.split(torch.arange(len(windows)), 32)
    return torch.cat([model(windows[r, :, : int(lengths[r].max())]).argmax(-1) for r in rows]).numpy()


def _minirocket(task: Task, training: SeriesSet, test: SeriesSet) -> dict[str, Any]:
    warnings.filterwarnings("ignore")
    from aeon.classification.convolution_based import MiniRocketClassifier

    longest = max(x.shape[1] for part in (training, test) for x in part.series)
    # MiniRocket wants equal lengths: shorter series go on with their last value.
    train_x, test_x = (_level(part, longest) for part in (training, test))
    model = MiniRocketClassifier(random_state=task.seed).fit(train_x, training.labels)
    return {"correct": model.predict(test_x) == test.labels}


def _level(part: SeriesSet, longest: int) -> Any:
    batch = np.stack([np.pad(x, ((0, 0), (0, longest - x.shape[1])), mode="edge") for x in part.series])
    return np.nan_to_num(batch).astype(np.float64)
