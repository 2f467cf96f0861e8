"""`update --mode full`: a model trained on old and new data together, compared with the champion.

Every figure is of windows whose group was left out of training (five folds). On new windows the champion is
the rival, which has not seen them. It may have seen the old ones: there the rival is a model trained as the
champion was, on the old windows of the other folds.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgesparse.config import RunConfig, config_from_dict
from edgesparse.training.cross_fit import out_of_fold
from edgesparse.training.train import train
from edgesparse_export.quantize.bundle import NothingToQuantizeError, quantize_bundle
from edgesparse_export.run_bundle import export_run
from edgesparse_runtime.bundle.read import Bundle
from edgesparse_runtime.bundle.write import copy_bundle
from edgesparse_runtime.data.series_set import SeriesSet
from edgesparse_runtime.errors import InputError
from edgesparse_runtime.evaluation.evaluate import independent_groups, known_labels
from edgesparse_runtime.model_check.metadata import stamp
from edgesparse_runtime.operation.update.challenger import STALE
from edgesparse_runtime.operation.update.known import join, names_of
from edgesparse_runtime.operation.update.paired import Paired, compare_right
from edgesparse_runtime.operation.update.ridge import folds_of
from edgesparse_runtime.session import Session

Say = Callable[[str], None]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class FullUpdate:
    """What a model trained on old and new windows gains.

    Attributes:
        new: on new windows, over the champion.
        old: on old ones, over a model trained on old windows alone; None without old data.
        penalty: of a head; none here.
    """

    new: Paired
    old: Paired | None
    penalty: None = None


def config_of(bundle: Bundle) -> RunConfig:
    """How the champion was trained.

    Raises:
        InputError: its manifest does not say.
    """
    stored = bundle.manifest.get("training", {}).get("config")
    try:
        config = config_from_dict(stored or {})
    except (KeyError, TypeError, InputError):
        raise InputError(
            f"{bundle.path} must state how it was trained for --mode full; it does not. Train a new model."
        ) from None
    # Everything is trained on: what is left out is measured by folds.
    return replace(config, training=replace(config.training, validation_share=0.0, patience=0))


def measure(
    session: Session, new: SeriesSet, old: SeriesSet | None, config: RunConfig, say: Say = lambda text: None
) -> FullUpdate:
    """Compare with the champion on windows that were left out.

    Args:
        new: labeled windows of the changed line, and
        old: of before.
    """
    assert session.bundle is not None
    classes = session.bundle.classes
    parts = [_named(part, classes) for part in (new, old) if part is not None]
    both = join(parts)
    folds = _folds(both, classes)
    right = _left_out(both, folds, config, say, "old and new")
    champion = session.predict(parts[0]).argmax(axis=-1) == _targets(parts[0], classes)
    count = len(new)
    gain = compare_right(champion, right[:count], independent_groups(new))
    if old is None:
        return FullUpdate(gain, None)
    before = _left_out(parts[1], folds[count:], config, say, "old alone")
    return FullUpdate(gain, compare_right(before, right[count:], independent_groups(old)))


def write_full(
    bundle: Bundle, data: SeriesSet, config: RunConfig, out: Path, fields: dict[str, Any]
) -> Bundle:
    """Train on all windows, export, quantize where the champion is, and write the challenger.

    Raises:
        GateError: the export or int8 differs too much from the trained model; nothing is written.
    """
    data = _named(data, bundle.classes)
    with tempfile.TemporaryDirectory() as folder:
        run = train(data, config, Path(folder) / "run", quiet=True)
        made, _ = export_run(run, Path(folder) / out.name, data=data)
        if "int8" in bundle.precisions:
            with contextlib.suppress(NothingToQuantizeError):
                made, _ = quantize_bundle(made, data=data)
        changed = {**fields, "name": bundle.manifest["name"], "metrics": run.report["metrics"]}
        # A reference of windows that were trained on would be surer than any later window.
        stated = {**made.manifest, **changed}
        models = [model["file"] for model in made.manifest["models"].values()]
        files = {name: stamp(made.read(name), stated) for name in models}
        return copy_bundle(
            made, out, files, changed, without=[n for n in STALE if n in made.manifest["files"]]
        )


def _named(data: SeriesSet, classes: tuple[str, ...]) -> SeriesSet:
    assert data.labels is not None
    return replace(data, labels=known_labels(data.labels, classes, data.source))


def _targets(data: SeriesSet, classes: tuple[str, ...]) -> npt.NDArray[np.int64]:
    assert data.labels is not None
    return np.array([classes.index(str(label)) for label in data.labels], dtype=np.int64)


def _folds(data: SeriesSet, classes: tuple[str, ...]) -> npt.NDArray[np.int64]:
    return folds_of(names_of(data), _targets(data, classes))


def _left_out(data: SeriesSet, folds: npt.NDArray[np.int64], config: RunConfig, say: Say, what: str) -> Flags:
    """Is each window decided right by a model that was trained without its fold?"""
    right = np.zeros(len(data), dtype=np.bool_)
    parts = [np.flatnonzero(folds == fold) for fold in np.unique(folds)]
    labels = np.asarray(data.labels)
    for i, (fold, fitted, output) in enumerate(out_of_fold(data, config, parts, quiet=True)):
        decided = np.array(fitted.facts.classes)[output.argmax(-1).numpy()]
        right[fold] = decided == labels[fold]
        say(f"{what}: {i + 1} of {len(parts)} folds")
    return right
