"""Models to explain: the default small classifier, and one with sparse attention that trains in a minute."""

from __future__ import annotations

from pathlib import Path

from edgesparse.config import RunConfig, resolve_config
from edgesparse.training.run_folder import Run
from edgesparse.training.train import train
from edgesparse_export.run_bundle import export_run
from edgesparse_runtime.data.series_set import SeriesSet
from edgesparse_runtime.session import Session

SMALL = ("model.layers=0",)
SPARSE = ("model.layers=2", "training.epochs=8")


def fit(data: SeriesSet, overrides: tuple[str, ...], folder: Path) -> tuple[Run, Session]:
    """A trained run, and a session of its bundle with the prototypes of its training data."""
    config = resolve_config(RunConfig(), None, [*overrides, "training.threads=1"])
    run = train(data, config, folder / "run", quiet=True)
    bundle, _ = export_run(run, folder / "model.edgesparse", data=data)
    return run, Session(bundle, threads=1, attention="sparse")
