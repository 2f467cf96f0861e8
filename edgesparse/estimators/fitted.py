"""What an estimator predicts with: a model trained in memory, or a bundle.

Shapes: `n` series, `K` scores.
"""

from __future__ import annotations

import importlib
import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgesparse.choosing.choose_model import choose_model
from edgesparse.config import RunConfig
from edgesparse.estimators.errors import InvalidInputError, as_value_errors
from edgesparse.training.data import to_windows
from edgesparse.training.evaluation import predict
from edgesparse.training.run_folder import LOG, Run
from edgesparse.training.supervised import fit_labeled
from edgesparse.training.train import fit_unknown_score, make_report, with_order
from edgesparse_runtime.arrays import FloatArray
from edgesparse_runtime.bundle.read import open_bundle
from edgesparse_runtime.bundle.write import copy_bundle
from edgesparse_runtime.data.channels import check_channels
from edgesparse_runtime.data.series_set import SeriesSet
from edgesparse_runtime.errors import MissingExtraError
from edgesparse_runtime.onnx_model import default_threads
from edgesparse_runtime.session import Session

# Of a package that builds on this one, so it is found when it is needed.
EXPORTER = "edgesparse_export.run_bundle"


@dataclass(frozen=True)
class Trained:
    """A model that this process trained.

    Attributes:
        history: one entry per epoch, as `log.jsonl` has them.
    """

    run: Run
    history: list[dict[str, Any]]

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(self.run.facts.classes)

    @property
    def channels(self) -> tuple[str, ...]:
        return tuple(self.run.facts.channels)

    @property
    def facts(self) -> Mapping[str, Any]:
        return {"horizon": self.run.facts.horizon, "target": self.run.facts.target_channel}

    @property
    def report(self) -> Mapping[str, Any]:
        return self.run.report

    def scores(self, data: SeriesSet) -> FloatArray:
        """[n, K]; the rows do not depend on each other."""
        data = check_channels(data, self.channels)
        shortest = self.run.model.patch
        for i, x in enumerate(data.series):
            if x.shape[1] < shortest:
                raise InvalidInputError(
                    f"Series {i} of `X` must have at least {shortest} step(s); got {x.shape[1]}."
                )
        with torch.no_grad():
            return self.run.to_scores(predict(self.run.model, to_windows(data))).numpy()

    def save(self, path: str | PathLike[str], data: SeriesSet | None) -> None:
        """Export to a bundle, whose scores are compared with these on `data`."""
        for package in ("onnx", "onnxscript"):
            if importlib.util.find_spec(package) is None:
                raise MissingExtraError("`save`", package, "export")
        importlib.import_module(EXPORTER).export_run(self.run, Path(path), data=data)


@dataclass
class FromBundle:
    """A bundle, run by onnxruntime; it is opened again where the estimator is unpickled."""

    path: Path
    session: Session | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path.absolute(), "session": None}

    @property
    def opened(self) -> Session:
        if self.session is None:
            self.session = Session(self.path)
        return self.session

    @property
    def classes(self) -> tuple[str, ...]:
        return self.opened.classes

    @property
    def channels(self) -> tuple[str, ...]:
        return self.opened.channels or ()

    @property
    def facts(self) -> Mapping[str, Any]:
        assert self.opened.bundle is not None
        return self.opened.bundle.manifest.get("forecast") or {}

    @property
    def task(self) -> str:
        assert self.opened.bundle is not None
        return str(self.opened.bundle.manifest["task"])

    @property
    def history(self) -> list[dict[str, Any]]:
        return []

    @property
    def report(self) -> Mapping[str, Any]:
        return {}

    def scores(self, data: SeriesSet) -> FloatArray:
        """[n, K]; the rows do not depend on each other."""
        return self.opened.predict(data)

    def save(self, path: str | PathLike[str], data: SeriesSet | None) -> None:
        """Copy the bundle, signature aside."""
        copy_bundle(open_bundle(self.path), Path(path), {}, {})


def fit_in_memory(
    data: SeriesSet, config: RunConfig, *, is_choosing: bool = False, n_jobs: int | None = None, quiet: bool
) -> Trained:
    """Train; nothing is left on disk, and torch's random state and threads stay as they were.

    Args:
        is_choosing: full where it is better out of fold, else small.
        n_jobs: as scikit-learn's.
    """
    with as_value_errors(), _own_torch(n_jobs), tempfile.TemporaryDirectory(prefix="edgesparse-") as folder:
        out, choice = Path(folder) / "run", None
        if is_choosing:
            config, found = choose_model(data, config)
            choice = found.to_dict()
        fitted = fit_labeled(data, config, out, quiet=quiet)
        report = make_report(fitted, quiet=quiet)
        told = fit_unknown_score(fitted)
        if told is not None:
            report["unknown"] = told[1].to_dict()
        if choice is not None:
            report["choice"] = choice
        log = (out / LOG).read_text(encoding="utf-8").splitlines()
    facts, score = replace(fitted.facts, source=""), None if told is None else told[0]
    run = with_order(Run(Path("in memory"), fitted.config, facts, fitted.model, report, score), fitted)
    return Trained(run, [json.loads(line) for line in log])


@contextmanager
def _own_torch(n_jobs: int | None) -> Iterator[None]:
    threads = torch.get_num_threads()
    wanted = threads if n_jobs is None else n_jobs
    if isinstance(wanted, bool) or not isinstance(wanted, (int, np.integer)) or wanted == 0 or wanted < -1:
        raise InvalidInputError(
            f"`n_jobs` must be a number of threads from 1 on, -1 or None; got {n_jobs!r}."
        )
    try:
        torch.set_num_threads(default_threads() if wanted == -1 else int(wanted))
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        torch.set_num_threads(threads)
