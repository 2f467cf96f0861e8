"""Cases and their stored results: one JSON file a case, valid for the code and the packages that made it.

A case is (task, set, model, seed). Results are read from bench-results/regression_forecasting/, where each
is written as soon as it is there, and from benchmarks/results/regression_forecasting.json, which `--write`
fills.
"""

from __future__ import annotations

import json
import re
import time
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.regression_forecasting import forecasting_sets, ours, regression_sets, rivals
from benchmarks.support.import_closure import hash_code, import_closure
from benchmarks.support.machine import describe_machine
from benchmarks.support.settings import COMMITTED as RESULTS
from benchmarks.support.settings import SCRATCH
from edgesparse_runtime.arrays import DoubleArray
from tests.support.paths import ROOT

FOLDER = SCRATCH / "regression_forecasting"
COMMITTED = RESULTS / "regression_forecasting.json"
# Of ours, whose weights start at random; of several the mean of their errors counts.
SEEDS = 1
RIVAL_PACKAGES = ("aeon", "lightgbm", "mlforecast", "statsforecast", "scikit-learn", "numba", "pandas")
# What chooses, trains and runs our models; the benchmark's own code is added.
OURS = ("edgesparse/training/train.py", "edgesparse/choosing/default_model.py")
SETS_OF = ("forecasting_sets", "regression_sets", "sources")

Record = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """One model on one set.

    Attributes:
        task: "regression" or "forecasting".
        model: a key of `ours.MODELS` or a rival.
    """

    task: str
    set: str
    model: str
    seed: int = 0

    @property
    def path(self) -> Path:
        name = f"{self.task}_{self.set}_{self.model}_{self.seed}"
        return FOLDER / (re.sub(r"[^\w-]+", "-", name) + ".json")

    @property
    def is_ours(self) -> bool:
        return self.model in ours.MODELS

    def stored(self) -> Record | None:
        """The result, if the same code made it."""
        found = [committed().get(self)]
        if self.path.exists():
            found.append(json.loads(self.path.read_text(encoding="utf-8")))
        return next((x for x in found if x is not None and x["code"] == code_version(self.is_ours)), None)

    def run(self) -> Record:
        """Train, predict and store.

        Raises:
            MissingPackage: of the set or of the model.
        """
        start = time.monotonic()
        cpu = time.process_time()
        found = self._regress() if self.task == "regression" else self._forecast()
        record = {
            "case": asdict(self),
            "code": code_version(self.is_ours),
            **found,
            "seconds": time.monotonic() - start,
            "processor_seconds": time.process_time() - cpu,
            "machine": machine(),
        }
        FOLDER.mkdir(parents=True, exist_ok=True)
        staging = self.path.with_suffix(".new")
        staging.write_text(json.dumps(record) + "\n", encoding="utf-8")
        staging.replace(self.path)
        return record

    def _regress(self) -> Record:
        training, test = _regression_set(self.set)
        if self.is_ours:
            predicted, _ = ours.regress(self.model, training, test, self.seed)
        else:
            predicted = rivals.REGRESSORS[self.model](training, test, self.seed)
        return {
            "trained": len(training.y),
            "spread": float(training.y.std()),
            "error": _digits(predicted - test.y),
            "groups": test.groups.tolist(),
        }

    def _forecast(self) -> Record:
        data = _forecasting_set(self.set)
        if self.is_ours:
            predicted, _ = ours.forecast(self.model, data, self.seed)
        else:
            predicted = rivals.FORECASTERS[self.model](data, self.seed)
        error = [
            np.abs(forecast - origin.future).mean() / origin.scale(data.season)
            for forecast, origin in zip(predicted, data.origins, strict=True)
        ]
        return {
            "trained": len(data.windows()[0]),
            "error": _digits(np.array(error)),
            "groups": [origin.group for origin in data.origins],
        }


@cache
def _regression_set(name: str) -> regression_sets.RegressionSet:
    return regression_sets.SETS[name]()


@cache
def _forecasting_set(name: str) -> forecasting_sets.ForecastingSet:
    return forecasting_sets.SETS[name]()


def all_cases() -> list[Case]:
    """All cases, the quick ones first."""
    cases = [Case("regression", name, model) for model in rivals.REGRESSORS for name in regression_sets.SETS]
    cases += [
        Case("forecasting", name, model) for model in rivals.FORECASTERS for name in forecasting_sets.SETS
    ]
    for seed in range(SEEDS):
        cases += [Case("forecasting", name, "default", seed) for name in forecasting_sets.SETS]
        cases += [Case("regression", name, "default", seed) for name in regression_sets.SETS]
    return cases


def machine() -> Record:
    """The machine and every version behind a figure."""
    found = describe_machine(1)
    packages = found["versions"]
    assert isinstance(packages, dict)
    return found | {"versions": packages | {name: _version(name) for name in RIVAL_PACKAGES}}


def commit(records: list[Record]) -> None:
    """Write the results where `committed` finds them, one line each, machines listed once."""
    machines: list[Record] = []
    lines = []
    for record in records:
        # The commit and the command differ from case to case, what computes does not.
        found = {k: v for k, v in record["machine"].items() if k not in ("commit", "command")}
        if found not in machines:
            machines.append(found)
        lines.append(json.dumps(record | {"machine": machines.index(found)}))
    text = ",\n".join(lines)
    COMMITTED.write_text(f'{{"machines": {json.dumps(machines)},\n"records": [\n{text}\n]}}\n', "utf-8")
    committed.cache_clear()


@cache
def committed() -> dict[Case, Record]:
    """Committed results by their case."""
    if not COMMITTED.exists():
        return {}
    table = json.loads(COMMITTED.read_text(encoding="utf-8"))
    return {
        Case(**record["case"]): record | {"machine": table["machines"][record["machine"]]}
        for record in table["records"]
    }


@cache
def code_version(is_ours: bool) -> str:
    """Hash of all code that a result depends on; a rival does not depend on the trainer."""
    parts = (*SETS_OF, "ours" if is_ours else "rivals")
    files = {ROOT / "benchmarks" / "regression_forecasting" / f"{part}.py" for part in parts}
    if is_ours:
        for file in (ROOT / name for name in OURS):
            files |= {file} | import_closure(file, ROOT / "edgesparse")
    return hash_code(files)


def _digits(values: DoubleArray) -> list[float]:
    return [float(f"{value:.6g}") for value in values]


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
