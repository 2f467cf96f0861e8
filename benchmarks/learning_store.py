"""Stored results of the learning benchmark: one JSON file a run, valid for the code that made it.

A run is (set, model, labels, seed). What it depends on is the training code and the benchmark's own data and
models, not the commit: a changed page does not cost hours.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch

from benchmarks.learning_data import SETS, load, take_labels
from benchmarks.learning_models import RIVALS, fit_and_judge
from benchmarks.machine import describe_machine

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "bench-results" / "learning"
BENCHMARK = (
    "learning_data",
    "learning_disturbances",
    "learning_long_range",
    "learning_models",
    "long_range",
)

Record = dict[str, Any]


@dataclass(frozen=True)
class Job:
    """One training run.

    Attributes:
        set: a key of `learning_data.SETS`.
        model: a variant of ours or a rival.
        labels: a share ("50%") or a number ("250") of the training series.
        seed: of labels chosen, weights and order.
        overrides: of the configuration, beyond the model's own.
    """

    set: str
    model: str
    labels: str = "100%"
    seed: int = 0
    overrides: tuple[str, ...] = ()

    @property
    def path(self) -> Path:
        extra = hashlib.sha256(repr(self.overrides).encode()).hexdigest()[:6] if self.overrides else ""
        name = "_".join([self.set, self.model, self.labels.replace("%", "pc"), str(self.seed), extra])
        return FOLDER / (re.sub(r"[^\w.-]+", "-", name).strip("_") + ".json")

    def stored(self) -> Record | None:
        """The result, if the same code made it."""
        if not self.path.exists():
            return None
        record: Record = json.loads(self.path.read_text(encoding="utf-8"))
        return record if record["code"] == code_version(self.model in RIVALS) else None

    def run(self) -> Record:
        """Train, test and store."""
        training, test = load(self.set)
        training = take_labels(training, self.labels, self.seed)
        overrides = self.overrides
        most = SETS[self.set].steps_at_most
        if most is not None:
            overrides = (f"training.steps_at_most={most}", *overrides)
        torch.set_num_threads(1)
        found = fit_and_judge(self.model, training, test, self.seed, overrides)
        record = {
            "job": asdict(self),
            "code": code_version(self.model in RIVALS),
            "machine": describe_machine(1),
            "series": len(training),
            "n": len(test),
            **found,
        }
        FOLDER.mkdir(parents=True, exist_ok=True)
        staging = self.path.with_suffix(".new")
        staging.write_text(json.dumps(record) + "\n", encoding="utf-8")
        staging.replace(self.path)
        return record


@cache
def code_version(is_rival: bool) -> str:
    """Hash of the files that a result depends on; a rival does not depend on the trainer."""
    files = [ROOT / "benchmarks" / f"{part}.py" for part in BENCHMARK]
    if not is_rival:
        files += sorted((ROOT / "edgesparse").glob("*.py"))
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()[:12]
