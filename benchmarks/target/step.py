"""One new sample of a causal model with its score: milliseconds a sample, and the worst of a million.

The preset `tiny` with random weights, exactly a quarter of the blocks kept, windows of 2,048 steps, one
thread. A process of its own, with nothing in it but numpy, onnxruntime and the runner, as on a device. Wall
time is what a user waits; processor time is what the step takes, whatever else the machine does meanwhile.

`python -m benchmarks.target.step` prints this line of `make prove-target` alone, as JSON.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from benchmarks.support.settings import QUICK
from edgesparse.model.transformer import Layer, SequenceTransformer, choose_sizes
from edgesparse.presets import tiny
from edgesparse.training.budget import set_selection
from edgesparse_export.step.files import step_fields, step_files

STEPS, CHANNELS, CLASSES = 2048, 2, 4
SAMPLES = 50_000 if QUICK else 1_000_000
DENSITY = 0.25
SCRIPT = """
import json, sys, time
from pathlib import Path
import numpy as np
from edgesparse_runtime.stream.step.token_stream import StepFacts, StepModel, TokenStream
folder, steps, count = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
facts = StepFacts(**json.loads((folder / "facts.json").read_text()))
channels = int(sys.argv[4])
files = (folder / facts.step).read_bytes(), (folder / facts.block).read_bytes()
model = StepModel(facts, *files, channels=channels, threads=1)
values = np.random.default_rng(0).standard_normal((steps, channels)).cumsum(0).astype(np.float32)
wall, own = np.empty(count), np.empty(count)
stream = TokenStream(model, steps)
for x in values:
    stream.push(x)
for k in range(count):
    if k % steps == 0:
        stream = TokenStream(model, steps)
    before, start = time.thread_time(), time.perf_counter()
    stream.push(values[k % steps])
    wall[k] = time.perf_counter() - start
    own[k] = time.thread_time() - before
def summary(times):
    return {
        "mean_ms": 1e3 * float(times.mean()),
        "p50_ms": 1e3 * float(np.median(times)),
        "p99_ms": 1e3 * float(np.quantile(times, 0.99)),
        "worst_ms": 1e3 * float(times.max()),
        "over_half_a_ms": int((times > 5e-4).sum()),
    }
print(json.dumps({"engine": str(model.engine), "wall": summary(wall), "processor": summary(own)}))
"""


def make_step_model() -> SequenceTransformer:
    """The causal model that is timed."""
    config = replace(tiny(), causal=True)
    torch.manual_seed(0)
    model = SequenceTransformer(choose_sizes(config, [STEPS]), channels=CHANNELS, outputs=CLASSES).eval()
    for layer in model.layers:
        assert isinstance(layer, Layer) and layer.attention.value_conv is not None
        nn.init.normal_(layer.attention.value_conv.weight, std=0.2)
    model.fit_stem(torch.randn(32, CHANNELS, STEPS).cumsum(-1))
    set_selection(model, 1.0, round(DENSITY * STEPS / model.patch / model.block_size))
    return model


def measure_step(samples: int = SAMPLES) -> dict[str, object]:
    """Milliseconds of `samples` samples, one after the other, each with its score."""
    model = make_step_model()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file, content in zip(("step", "block"), step_files(model, lambda x: x.softmax(-1)), strict=True):
            (folder / file).write_bytes(content)
        facts = {"step": "step", "block": "block", **step_fields(model)}
        (folder / "facts.json").write_text(json.dumps(facts))
        command = [sys.executable, "-c", SCRIPT, name, str(STEPS), str(samples), str(CHANNELS)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"The step model did not run; {done.stderr.strip().splitlines()[-1]}.")
    found: dict[str, object] = json.loads(done.stdout)
    return {"samples": samples, "facts": facts, **found}


if __name__ == "__main__":
    print(json.dumps(measure_step()))
