"""The whole job on real data: train three models, export, quantize, verify, evaluate, time.

The data are ACSF1 (power signatures of ten kinds of appliance, 1,460 steps, 100 labeled series), as they
lie in the sktime package: nothing is downloaded.
"""

from __future__ import annotations

import importlib.util
import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgesparse.config import RunConfig, resolve_config
from edgesparse.training.run_folder import Run, write_text
from edgesparse.training.train import train
from edgesparse_export.quantize.bundle import quantize_bundle
from edgesparse_export.run_bundle import export_run
from edgesparse_runtime.bundle.read import Bundle
from edgesparse_runtime.data.readers import read_dataset, write_csv
from edgesparse_runtime.data.series_set import SeriesSet
from edgesparse_runtime.errors import GateError, InputError, MissingExtraError
from edgesparse_runtime.evaluation.evaluate import evaluate
from edgesparse_runtime.evaluation.verify import verify
from edgesparse_runtime.measure.compare import compare
from edgesparse_runtime.measure.environment import describe_environment
from edgesparse_runtime.measure.profile import Profile, profile
from edgesparse_runtime.session import Session

BUDGET = 0.3
# The default model of `train`, and a transformer with each kind of attention.
TRAINED = {
    "small": "small: fixed features and a linear map",
    "dense": "transformer, dense attention",
    "sparse": f"transformer, sparse attention (budget {BUDGET:.0%})",
}
THREADS = 1
# int8 may lose one of the hundred training series: the test series are not touched for any decision.
MAX_DROP = 0.01


@dataclass(frozen=True)
class Row:
    """One line of the table; a model without attention has no shares of it."""

    model: str
    accuracy: dict[str, Any]
    attention_share: float | None
    model_share: float | None
    profile: Profile
    bytes: int

    def to_dict(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "accuracy": self.accuracy,
            "attention_share": self.attention_share,
            "model_share": self.model_share,
            "profile": self.profile.to_dict(),
            "bytes": self.bytes,
        }


def read_example() -> tuple[SeriesSet, SeriesSet]:
    """Training and test series of ACSF1."""
    spec = importlib.util.find_spec("sktime")
    if spec is None or spec.origin is None:
        raise MissingExtraError("The quickstart's data set", "sktime", "data")
    folder = Path(spec.origin).parent / "datasets" / "data" / "ACSF1"
    if not folder.is_dir():
        raise InputError("The installed sktime must carry the ACSF1 data set; it does not. Use sktime 1.2.0.")
    return read_dataset(folder / "ACSF1_TRAIN.ts"), read_dataset(folder / "ACSF1_TEST.ts")


def run_quickstart(
    out: Path,
    *,
    epochs: int | None = None,
    seconds: float = 2.0,
    seed: int = 0,
    note: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Run all of it and return what the table shows.

    Args:
        out: folder for runs, bundles and quickstart.json.
        epochs: fewer passes than the default, for a rough look.
        seconds: measuring time per model.
        note: prints a line of progress; None = no progress.
    """
    began = time.monotonic()

    def progress(text: str) -> None:
        if note is not None:
            note(f"[{time.monotonic() - began:5.1f} s] {text}")

    training, test = read_example()
    out.mkdir(parents=True, exist_ok=True)
    # As a table too, the form that most people's own data have: the README's commands use it.
    write_csv(out / "appliance_TRAIN.csv", training)
    write_csv(out / "appliance_TEST.csv", test)
    progress(f"ACSF1: {len(training)} labeled series to train on, {len(test)} to test on, 10 classes")
    bundles = {}
    for model, what in TRAINED.items():
        progress(f"training, {what}")
        run = _train(model, training, out / "runs" / model, epochs, seed, quiet=note is None)
        bundles[model], parity = export_run(run, out / f"acsf1_{model}.edgesparse", data=training)
        progress(f"exported, parity holds: largest difference {parity.largest_difference:.1e}")
    bundles["sparse"], int8, int8_note = _quantize(bundles["sparse"], training)
    progress(int8)
    _verify(bundles.values())
    progress("verified on this machine; measuring")
    rows = [
        _measure(bundle, model, precision, test, seconds)
        for model, bundle in bundles.items()
        for precision in bundle.precisions
    ]
    result = {
        "data": {"name": "ACSF1", "training_series": len(training), "test_series": len(test), "steps": 1460},
        "budget": BUDGET,
        "seed": seed,
        "rows": [row.to_dict() for row in rows],
        "dense_over_sparse": _compare(bundles["dense"], bundles["sparse"], seconds),
        "int8_note": int8_note,
        "seconds": time.monotonic() - began,
        "environment": describe_environment(),
    }
    write_text(out / "quickstart.json", json.dumps(result, indent=2) + "\n")
    return result


def _train(
    model: str, training: SeriesSet, folder: Path, epochs: int | None, seed: int, *, quiet: bool
) -> Run:
    overrides = [f"training.seed={seed}"]
    if model == "small":
        overrides.append("model.layers=0")
    else:
        overrides += [f"model.attention={model}", f"training.budget={BUDGET}"]
    if epochs is not None:
        overrides.append(f"training.epochs={epochs}")
    return train(training, resolve_config(RunConfig(), None, overrides), folder, quiet=quiet)


def _quantize(bundle: Bundle, training: SeriesSet) -> tuple[Bundle, str, str]:
    """The bundle with an int8 model, where the gate lets one in; what to report; why there is none, or ""."""
    try:
        bundle, report = quantize_bundle(bundle, data=training, max_drop=MAX_DROP)
    except GateError as error:
        return bundle, str(error), str(error)
    layers = f"{report.linear_layers} linear and {report.attention_layers} attention layers"
    flipped = f"{report.decisions_flipped} of {report.change.series} training decisions flipped"
    return bundle, f"int8: {layers}, {flipped}", ""


def _verify(bundles: Iterable[Bundle]) -> None:
    for bundle in bundles:
        for check in verify(bundle):
            if not check.holds:
                raise GateError(f"{bundle.path} fails verification: {check.boundary}.")


def _compare(dense: Bundle, sparse: Bundle, seconds: float) -> dict[str, Any]:
    """How many times as fast as dense float32 the fastest sparse model is."""
    fastest = "int8" if "int8" in sparse.precisions else "float32"
    ratio = compare(
        Session(dense, precision="float32", threads=THREADS),
        Session(sparse, precision=fastest, threads=THREADS),
        seconds=seconds,
    )
    return {"precision": fastest} | ratio.to_dict()


def _measure(bundle: Bundle, model: str, precision: str, test: SeriesSet, seconds: float) -> Row:
    accuracy = evaluate(Session(bundle, precision=precision), test).metrics[0]
    has_attention = bundle.manifest["attention"]["mode"] != "none"
    compute = bundle.manifest["compute"]
    return Row(
        model=f"{model} {precision}",
        accuracy=accuracy.to_dict(),
        attention_share=compute["attention_share"] if has_attention else None,
        model_share=compute["model_share"] if has_attention else None,
        profile=profile(bundle.path, precision=precision, threads=THREADS, seconds=seconds),
        bytes=bundle.model_path(precision).stat().st_size,
    )
