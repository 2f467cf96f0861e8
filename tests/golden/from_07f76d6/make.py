"""Made the files beside it, in a checkout of commit 07f76d6: `python make.py OUT`, run from its root.

Four bundles, one run folder, and `expected.npz` with their inputs and outputs. It uses the names of that
commit, so it does not run on later ones; it is kept to tell what the files are.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from edgesparse.train import train
from edgesparse_export.exporter import export_run
from edgesparse_export.quantizer import quantize_bundle
from edgesparse_runtime.series_set import SeriesSet
from edgesparse_runtime.stream.step_model import StepModel, TokenStream
from edgesparse_runtime.tensor_batch import TensorBatch
from tests.dropin.tiny_models import sharpen, tiny

from edgesparse.config import RunConfig
from edgesparse.dropin.sparsify import sparsify
from edgesparse_export.dropin import export_model, to_arrays
from edgesparse_runtime.bundle import open_bundle
from edgesparse_runtime.session import Session
from tests.conftest import TINY_MODEL, make_series, tiny_config

ENGINES = ("scalar", "avx2", "body")


def make(out: Path) -> None:
    series = make_series(unequal=True)
    run = train(series, tiny_config(epochs=8), out / "run", quiet=True)
    bundle, _ = export_run(run, out / "classifier.edgesparse", data=series)
    quantize_bundle(bundle, data=series, max_drop=0.5)
    config = RunConfig(model=replace(TINY_MODEL, causal=True), training=tiny_config(epochs=4).training)
    run = train(make_series(), config, out / "scratch-causal", quiet=True)
    export_run(run, out / "causal.edgesparse", data=make_series())
    rng = np.random.default_rng(0)
    wave = np.sin(2 * np.pi * (np.arange(320) + rng.integers(40, size=(24, 1))) / 40)
    load = 100 + 5 * wave + 0.3 * rng.standard_normal((24, 320))
    waves = np.stack([rng.standard_normal((24, 320)), load], axis=1).astype(np.float32)
    data = SeriesSet(list(waves), ("noise", "load"), source="waves")
    settings = tiny_config(task="forecasting", horizon=20, target="load", epochs=8)
    run = train(data, settings, out / "scratch-forecaster", quiet=True)
    export_run(run, out / "forecaster.edgesparse", data=data)
    model, batch = tiny("bert")
    sharpen(model)
    sparsify(model, [batch, batch], density=0.5, block_size=8)
    bundle, _ = export_model(model, batch, out / "tensors.edgesparse")
    quantize_bundle(bundle)
    window = make_series(4, seed=7).series
    np.savez(
        out / "inputs.npz",
        classifier=np.stack(window),
        causal=np.stack(window[:2]),
        forecaster=waves[:2, :, :280],
        **{f"tensors/{name}": value for name, value in to_arrays(batch).arrays.items()},
    )


def predict(out: Path, target: Path) -> None:
    """Scores of every bundle and precision with the engine that the environment pins."""
    found = {}
    inputs = dict(np.load(out / "inputs.npz"))
    for name in ("classifier", "causal", "forecaster", "tensors"):
        bundle = open_bundle(out / f"{name}.edgesparse")
        given = inputs.get(name)
        if given is None:
            given = TensorBatch({k.split("/")[1]: inputs[k] for k in inputs if k.startswith(name + "/")})
        for precision in bundle.precisions:
            session = Session(bundle, precision=precision, threads=1, attention="sparse")
            found[f"{name}/{precision}"] = session.predict(given)
            found[f"engine/{name}/{precision}"] = np.array(session.engine)
    stream = TokenStream(StepModel.open(open_bundle(out / "causal.edgesparse")), 600)
    scores = [stream.push(x) for x in inputs["causal"][0].T]
    found["stream/float32"] = np.stack([x for x in scores if x is not None])[7::8]
    np.savez(target, **found)


def main() -> None:
    out = Path(sys.argv[1])
    if len(sys.argv) > 2:
        predict(out, Path(sys.argv[2]))
        return
    torch.set_num_threads(1)
    make(out)
    expected = dict(np.load(out / "inputs.npz"))
    expected = {f"input/{key}": value for key, value in expected.items()}
    for engine in ENGINES:
        pin = {"EDGESPARSE_ENGINE": "body"} if engine == "body" else {"EDGESPARSE_ISA": engine}
        target = out / f"{engine}.npz"
        command = [sys.executable, __file__, str(out), str(target)]
        done = subprocess.run(command, env=os.environ | pin, capture_output=True, text=True, check=False)
        print(engine, done.returncode, done.stderr[-200:])
        if done.returncode == 0:
            expected |= {f"{engine}/{key}": value for key, value in np.load(target).items()}
    np.savez_compressed(out / "expected.npz", **expected)
    info = Path("/proc/cpuinfo").read_text().splitlines()
    cpu = next(line.split(":", 1)[1].strip() for line in info if line.startswith("model name"))
    (out / "machine.json").write_text(json.dumps({"cpu": cpu, "system": platform.platform()}) + "\n")


if __name__ == "__main__":
    main()
