"""Two bundles of preset `tiny` with different weights, and windows with their scores by the runner itself."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgesparse_runtime.bundle.read import Bundle, all_files, open_bundle
from edgesparse_runtime.bundle.write import store_files
from edgesparse_runtime.errors import EdgeSparseError
from edgesparse_runtime.session import Session

FloatArray = npt.NDArray[np.float32]
# The length of the README's series.
STEPS = 1460
WINDOWS = 64


@dataclass(frozen=True)
class Pair:
    """Bundles that answer differently, so that an answer tells which model gave it.

    Attributes:
        bundles: the two.
        windows: [64, 1, 1, STEPS].
        expected: their scores by bundle hash, each [64, classes].
    """

    bundles: tuple[Bundle, Bundle]
    windows: list[FloatArray]
    expected: dict[str, FloatArray]


def make_pair(folder: Path) -> Pair:
    """The pair in `folder`, trained (shortly: weights matter here, accuracy does not) unless it is there."""
    bundles = tuple(_make(folder / f"tiny{seed}.edgesparse", seed) for seed in (0, 1))
    assert len(bundles) == 2
    draw = np.random.default_rng(0)
    walks = draw.standard_normal((WINDOWS, 1, 1, STEPS)).cumsum(axis=-1).astype(np.float32)
    expected = {
        bundle_hash(bundle): Session(bundle, threads=1).predict(walks[:, 0], batch_size=1)
        for bundle in bundles
    }
    return Pair((bundles[0], bundles[1]), list(walks), expected)


def put(bundle: Bundle, path: Path) -> None:
    """Put a bundle's files in place at `path`, atomically."""
    store_files(path, all_files(bundle), archive=False)


def bundle_hash(bundle: Bundle) -> str:
    """What the server calls a bundle by."""
    return hashlib.sha256(bundle.manifest_bytes).hexdigest()


def _make(path: Path, seed: int) -> Bundle:
    try:
        return open_bundle(path)
    except EdgeSparseError:
        pass
    from edgesparse.config import RunConfig, TrainingConfig
    from edgesparse.presets import tiny
    from edgesparse.training.train import train
    from edgesparse_export.run_bundle import export_run
    from tests.support.synthetic import make_series

    path.parent.mkdir(parents=True, exist_ok=True)
    series = make_series(12, channels=1, steps=STEPS, seed=seed)
    config = RunConfig(model=tiny(), training=TrainingConfig(epochs=2, budget=0.3, seed=seed))
    run = train(series, config, path.parent / f"run{seed}", quiet=True)
    return export_run(run, path, data=series)[0]
