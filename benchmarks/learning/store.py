"""Stored results of the learning benchmark: one JSON file a run, valid for the code that made it.

A run is (set, model, labels, seed). What it depends on is the code that training imports and the benchmark's
own data and models, not the commit: a changed page, comment or unrelated module does not cost hours, nor does
a trainer whose text changed and whose behavior did not (learning_behavior.py). Results are read from
bench-results/learning/, one file a run, and from what was committed under benchmarks/results/learning/, one
file a table.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch

from benchmarks.learning.behavior import LARGE, behavior
from benchmarks.learning.confirmation import CONFIRMATION, OPENED, load_confirmation
from benchmarks.learning.data import SETS, load, take_labels
from benchmarks.learning.disturbances import DISTURBED_SETS
from benchmarks.learning.long_range import LONG_RANGE, fit_long, stages_of
from benchmarks.learning.models import RIVALS, fit_and_judge
from benchmarks.support.import_closure import hash_code, import_closure
from benchmarks.support.machine import describe_machine

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "bench-results" / "learning"
COMMITTED = ROOT / "benchmarks" / "results" / "learning"
# Models of the robustness table.
DISTURBED_MODELS = ("small", "dense", "sparse", "no augmentation", "half augmented", "MiniRocket")
# The benchmark's own parts that a result depends on, and those of made tasks.
BENCHMARK = ("data", "disturbances", "models")
MADE = ("long_range", "made_tasks")

Record = dict[str, Any]


@dataclass(frozen=True)
class Job:
    """One training run.

    Attributes:
        set: a key of `data.SETS`.
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
        found = [committed(COMMITTED).get(self.path.stem)]
        if self.path.exists():
            found.append(json.loads(self.path.read_text(encoding="utf-8")))
        return next((record for record in found if record is not None and is_valid(record, self)), None)

    @contextmanager
    def claim(self) -> Iterator[bool]:
        """Whether no other process is at this run; nobody else can claim it meanwhile.

        The same command may so be started once a core. A process that dies gives its claim back.
        """
        FOLDER.mkdir(parents=True, exist_ok=True)
        file = self.path.with_suffix(".claim")
        with file.open("w") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            try:
                yield True
            finally:
                file.unlink(missing_ok=True)

    def run(self) -> Record:
        """Train, test and store."""
        torch.set_num_threads(1)
        found = self._run_long() if self.set in LONG_RANGE else self._run_set()
        record = {"job": asdict(self), "machine": describe_machine(1), **found}
        FOLDER.mkdir(parents=True, exist_ok=True)
        staging = self.path.with_suffix(".new")
        staging.write_text(json.dumps(record) + "\n", encoding="utf-8")
        staging.replace(self.path)
        return record

    def _run_long(self) -> Record:
        task, _, length = self.set.partition("-")
        series = sum(stage.series for stage in stages_of(task) if stage.steps <= int(length))
        kept = FOLDER / "stages" / code_version(self)
        found = fit_long(self.set, self.model, self.seed, kept)
        # Of the code alone: what short runs of a trainer show does not say that stages end the same.
        return {"code": code_version(self), "series": series, "n": len(found["right"]), **found}

    def _run_set(self) -> Record:
        is_confirmation = self.set in CONFIRMATION + OPENED
        training, test = load_confirmation(self.set) if is_confirmation else load(self.set)
        training = take_labels(training, self.labels, self.seed)
        overrides = self.overrides
        most = None if is_confirmation else SETS[self.set].max_steps
        if most is not None:
            overrides = (f"training.max_steps={most}", *overrides)
        # The robustness table's runs.
        is_disturbed = self.set in DISTURBED_SETS and self.model in DISTURBED_MODELS and self.labels == "100%"
        found = fit_and_judge(
            self.model, training, test, self.seed, overrides, is_disturbed=is_disturbed and not self.overrides
        )
        return {
            **versions(self, len(training), len(training.channels)),
            "series": len(training),
            "channels": len(training.channels),
            "n": len(test),
            **found,
        }


@cache
def committed(folder: Path) -> dict[str, Record]:
    """Committed results by the name of their run's file; of two of one run the code's own wins."""
    found: dict[str, Record] = {}
    for file in sorted(folder.glob("*.json")):
        table = json.loads(file.read_text(encoding="utf-8"))
        for record in table["records"]:
            job = _job(record)
            known = found.get(job.path.stem)
            if known is None or not is_valid(known, job):
                found[job.path.stem] = {"machine": table["machine"], **record}
    return found


def commit(name: str, machine: Record, records: Iterable[Record]) -> Path:
    """Write a table's results where `committed` finds them, a line each, without their machine.

    A result that is valid here names this code: that the trainer does the same to the bit cannot be seen on
    another processor, where the result would be lost.
    """
    COMMITTED.mkdir(parents=True, exist_ok=True)
    path = COMMITTED / f"{name}.json"
    lines = []
    for record in records:
        job = _job(record)
        stamp = {"code": code_version(job)} if is_valid(record, job) else {}
        lines.append(json.dumps({k: v for k, v in record.items() if k != "machine"} | stamp))
    text = ",\n".join(lines)
    path.write_text(f'{{"machine": {json.dumps(machine)},\n"records": [\n{text}\n]}}\n', encoding="utf-8")
    return path


def _job(record: Record) -> Job:
    return Job(**record["job"] | {"overrides": tuple(record["job"]["overrides"])})


def versions(job: Job, series: int, channels: int) -> dict[str, str]:
    """What a record says about the code that made it, trained on so many series of so many channels."""
    if job.model in RIVALS:
        return {"code": code_version(job)}
    return {
        "code": code_version(job),
        "benchmark": benchmark_version(job),
        "behavior": _behavior(series, channels),
    }


def is_valid(record: Record, job: Job) -> bool:
    """Whether this code would give the record again: the same code, or another trainer that does the same."""
    if record["code"] == code_version(job):
        return True
    if job.model in RIVALS or record.get("benchmark") != benchmark_version(job) or "channels" not in record:
        return False
    return bool(record["behavior"] == _behavior(record["series"], record["channels"]))


def _behavior(series: int, channels: int) -> str:
    return behavior(is_large=series >= LARGE, is_multichannel=channels > 1)


def benchmark_version(job: Job) -> str:
    """Hash of the benchmark's own code that a result depends on."""
    return _version(job.set in LONG_RANGE, is_ours=False)


def code_version(job: Job) -> str:
    """Hash of all code that a result depends on; a rival does not depend on the trainer."""
    return _version(job.set in LONG_RANGE, is_ours=job.model not in RIVALS)


@cache
def _version(is_made: bool, *, is_ours: bool) -> str:
    parts = BENCHMARK + (MADE if is_made else ())
    files = {ROOT / "benchmarks" / "learning" / f"{part}.py" for part in parts}
    if is_ours:
        files |= import_closure(ROOT / "benchmarks" / "learning" / "models.py", ROOT / "edgesparse")
    return hash_code(files)
