"""Exact windows at long inputs: ModernBERT-base's shape, random weights, each run in a process of its own.

Half of its layers (11 of 22, four of them global: the whole model's share). The file with `WindowAttention`
in every layer approximates nothing. The other is the dense export: a window is a mask of all pairs, and
global layers are onnxruntime's fused attention. Random weights say nothing of density, and nothing is
claimed of it.

`measure_packed` is the same for texts of many lengths in XLM-RoBERTa-base's shape (2 of 12 layers; the padded
batch takes gigabytes): packed, and padded to the longest. `measure_large` is XLM-RoBERTa-large's shape, as
BGE-M3 and its rerankers have it, on one long text with padding: the drop-in with every block kept, whose
answers must be dense attention's. `python -m benchmarks.dropin.long_inputs` prints all as JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import onnx_ir as ir
import torch

from benchmarks.support.settings import QUICK
from edgesparse.dropin.sparsify import sparsify
from edgesparse_export.dropin.packed import packed_to_onnx
from edgesparse_export.dropin.program import dropin_to_onnx

LAYERS, TOKENS, ROUNDS = (3, 2048, 2) if QUICK else (11, 8192, 2)
# Texts of a batch, the longest, and layers.
TEXTS, LONGEST, PACKED_LAYERS = (8, 500, 2) if QUICK else (32, 2000, 2)
SHORTEST = 20
# XLM-RoBERTa-large: layers of 24, tokens, and those at the end that are padding.
LARGE_LAYERS, LARGE_TOKENS, PADDING = (1, 2048, 100) if QUICK else (2, 8192, 100)
THREADS = int(os.environ.get("THREADS", "1"))
# A short run first: what it leaves in the arena is not counted as the long one's.
SCRIPT = """
import json, sys, time
import numpy as np
import onnxruntime
from edgesparse_runtime.engine import register
file, inputs, output, threads = sys.argv[1:]
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = int(threads)
options.log_severity_level = 3
engine = register(options)
session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
stored = np.load(inputs)
feeds = {name: stored[name] for name in stored.files if not name.startswith("short.")}
session.run(["scores"], {name: stored[f"short.{name}"] for name in feeds})
def status(name):
    return next(int(x.split()[1]) for x in open("/proc/self/status") if x.startswith(name)) / 1024
open("/proc/self/clear_refs", "w").write("5")
before, start = status("VmRSS"), time.perf_counter()
result = session.run(["scores"], feeds)[0]
seconds = time.perf_counter() - start
print(json.dumps({"seconds": seconds, "mb": status("VmHWM") - before, "engine": str(engine)}))
np.save(output, result)
"""


def write_inputs(path: Path, feeds: Mapping[str, Any], short: Mapping[str, Any]) -> None:
    """What `SCRIPT` reads: a run's inputs, and those of the short run before it."""
    arrays: dict[str, Any] = {**feeds, **{f"short.{key}": x for key, x in short.items()}}
    np.savez(path, **arrays)


def run_apart(file: Path, inputs: Path, output: Path) -> dict[str, Any]:
    """Seconds and the megabytes that one run adds, in a new process; the result goes to `output`."""
    command = [sys.executable, "-c", SCRIPT, str(file), str(inputs), str(output), str(THREADS)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{file.stem} did not run; {done.stderr.strip().splitlines()[-1:]}.")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def modern_bert(layers: int) -> Any:
    """Base size with so many layers, random weights."""
    import transformers

    torch.manual_seed(0)
    config = transformers.ModernBertConfig(num_hidden_layers=layers)
    return transformers.ModernBertModel(config).eval().requires_grad_(False)


def xlm_roberta(layers: int, **size: int) -> Any:
    """Base size with so many layers, a smaller vocabulary and positions for 8,192 tokens, as BGE-M3 has."""
    import transformers

    torch.manual_seed(0)
    config = transformers.XLMRobertaConfig(
        vocab_size=50000, num_hidden_layers=layers, max_position_embeddings=8194, **size
    )
    return transformers.XLMRobertaModel(config, add_pooling_layer=False).eval().requires_grad_(False)


def run_in_turn(files: dict[str, Path], inputs: dict[str, Path], folder: Path, rounds: int) -> dict[str, Any]:
    """Each file `rounds` times, in turn: the median of seconds, the largest of megabytes."""
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in files}
    for _ in range(rounds):
        for name, file in files.items():
            runs[name].append(run_apart(file, inputs[name], folder / f"{name}.npy"))
            print(f"{name}: {runs[name][-1]}", file=sys.stderr, flush=True)
    return {
        name: {
            "seconds": median(x["seconds"] for x in found),
            "mb": max(x["mb"] for x in found),
            "engine": found[0]["engine"],
        }
        for name, found in runs.items()
    }


def measure_windows() -> dict[str, Any]:
    """Both files on one text without padding."""
    model = modern_bert(LAYERS)
    sparsify(model)
    draw = np.random.default_rng(0)
    ids = draw.integers(10, 50000, (1, TOKENS))
    stored = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    example = {name: torch.from_numpy(np.repeat(x[:, :64], 2, 0)) for name, x in stored.items()}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        inputs = folder / "inputs.npz"
        write_inputs(inputs, stored, {key: x[:, :256] for key, x in stored.items()})
        files = {kind: folder / f"{kind}.onnx" for kind in ("dense", "windows")}
        for kind, file in files.items():
            exported = dropin_to_onnx(model, example, dense=kind == "dense", exact=kind == "windows")
            ir.save(exported, file)
        found = run_in_turn(files, dict.fromkeys(files, inputs), folder, ROUNDS)
        dense, ours = (np.load(folder / f"{kind}.npy")[0] for kind in files)
    largest = np.abs(dense).max(-1, keepdims=True)
    return {
        **found,
        "layers": LAYERS,
        "tokens": TOKENS,
        "threads": THREADS,
        "difference": float((np.abs(ours - dense) / largest).max()),
    }


def text_lengths() -> list[int]:
    """From the shortest to the longest text, each longer than the one before by the same ratio."""
    lengths = np.geomspace(SHORTEST, LONGEST, TEXTS).round().astype(int)
    np.random.default_rng(1).shuffle(lengths)
    return [int(x) for x in lengths]


def measure_packed() -> dict[str, Any]:
    """One batch of texts, packed in the one file and padded in the dense one."""
    model = xlm_roberta(PACKED_LAYERS)
    sparsify(model)
    draw, lengths = np.random.default_rng(0), text_lengths()
    mask = (np.arange(LONGEST) < np.array(lengths)[:, None]).astype(np.int64)
    ids = np.where(mask == 1, draw.integers(10, 50000, mask.shape), 1)
    packed = {"input_ids": ids[mask == 1], "starts": np.cumsum([0, *lengths])}
    short = {"input_ids": packed["input_ids"][:256], "starts": np.array([0, 100, 256])}
    example = {"input_ids": torch.from_numpy(ids[:2, :64]), "attention_mask": torch.from_numpy(mask[:2, :64])}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = {kind: folder / f"{kind}.onnx" for kind in ("padded", "packed")}
        inputs = {kind: folder / f"{kind}.npz" for kind in files}
        ir.save(dropin_to_onnx(model, example, dense=True), files["padded"])
        ir.save(packed_to_onnx(model), files["packed"])
        padded = {"input_ids": ids, "attention_mask": mask}
        write_inputs(inputs["padded"], padded, {key: x[:1, :256] for key, x in padded.items()})
        write_inputs(inputs["packed"], packed, short)
        found = run_in_turn(files, inputs, folder, 1)
        expected, ours = np.load(folder / "padded.npy")[mask == 1], np.load(folder / "packed.npy")
    largest = np.abs(expected).max(-1, keepdims=True)
    return {
        **found,
        "layers": PACKED_LAYERS,
        "texts": TEXTS,
        "longest": LONGEST,
        "tokens": sum(lengths),
        "threads": THREADS,
        "difference": float((np.abs(ours - expected) / largest).max()),
    }


def measure_large() -> dict[str, Any]:
    """The sparse file with every block kept beside the dense one, on one text."""
    size = {"hidden_size": 1024, "num_attention_heads": 16, "intermediate_size": 4096}
    model = xlm_roberta(LARGE_LAYERS, **size)
    sparsify(model)
    draw = np.random.default_rng(0)
    ids = draw.integers(10, 50000, (1, LARGE_TOKENS))
    ids[:, LARGE_TOKENS - PADDING :] = 1
    stored = {"input_ids": ids, "attention_mask": (ids != 1).astype(np.int64)}
    example = {name: torch.from_numpy(np.repeat(x[:, :256], 2, 0)) for name, x in stored.items()}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        inputs = folder / "inputs.npz"
        write_inputs(inputs, stored, {key: x[:, :256] for key, x in stored.items()})
        files = {kind: folder / f"{kind}.onnx" for kind in ("dense", "sparse")}
        for kind, file in files.items():
            ir.save(dropin_to_onnx(model, example, dense=kind == "dense"), file)
        found = run_in_turn(files, dict.fromkeys(files, inputs), folder, 1)
        real = stored["attention_mask"][0] == 1
        dense, ours = (np.load(folder / f"{kind}.npy")[0, real] for kind in files)
    largest = np.abs(dense).max(-1, keepdims=True)
    return {
        **found,
        "layers": LARGE_LAYERS,
        "tokens": LARGE_TOKENS,
        "threads": THREADS,
        "difference": float((np.abs(ours - dense) / largest).max()),
    }


if __name__ == "__main__":
    found = {"windows": measure_windows(), "packed": measure_packed(), "large": measure_large()}
    print(json.dumps(found, indent=1))
