"""Scores of the golden bundles with the pinned engine: `python -m tests.golden.predict FOLDER OUT`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgesparse_runtime.bundle.read import open_bundle
from edgesparse_runtime.data.tensors.batch import TensorBatch
from edgesparse_runtime.session import Session
from edgesparse_runtime.stream.step.token_stream import StepModel, TokenStream

BUNDLES = ("classifier", "causal", "forecaster", "tensors")
STREAM_STEPS = 600


def predict(folder: Path, inputs: dict[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
    """What `from_07f76d6/make.py` stored, by the same names."""
    found = {}
    for name in BUNDLES:
        bundle = open_bundle(folder / f"{name}.edgesparse")
        given: Any = inputs.get(name)
        if given is None:
            parts = {key.split("/")[1]: value for key, value in inputs.items() if key.startswith(name + "/")}
            given = TensorBatch(parts)
        for precision in bundle.precisions:
            session = Session(bundle, precision=precision, threads=1, attention="sparse")
            found[f"{name}/{precision}"] = session.predict(given)
            found[f"engine/{name}/{precision}"] = np.array(session.engine)
    stream = TokenStream(StepModel.open(open_bundle(folder / "causal.edgesparse")), STREAM_STEPS)
    scores = [stream.push(x) for x in inputs["causal"][0].T]
    found["stream/float32"] = np.stack([x for x in scores if x is not None])[7::8]
    return found


def main() -> None:
    folder, target = Path(sys.argv[1]), Path(sys.argv[2])
    with np.load(Path(__file__).with_name("from_07f76d6") / "expected.npz") as stored:
        inputs = {key.removeprefix("input/"): stored[key] for key in stored if key.startswith("input/")}
    np.savez(target, **predict(folder, inputs))  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
