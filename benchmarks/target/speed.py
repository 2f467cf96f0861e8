"""Speed of the whole model against its rivals, interleaved and at equal threads."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np
import torch

from benchmarks.support.interleaved import find_ratio, time_by_name
from benchmarks.target.models import (
    Encoder,
    FloatArray,
    Run,
    embeddings,
    encoder,
    int8_ours,
    int8_usual,
    make_model,
    open_onnx,
    open_openvino,
    walks,
    whole_model,
)

OURS = "int8 sparse"
# Largest difference from PyTorch, of the largest score: float32 engines; int8 and OpenVINO's bfloat16.
ALLOWED = {"float32": 1e-3, "int8": 0.1}


def measure_whole(tokens: int, threads: int, seconds: float) -> dict[str, Any]:
    """Whole models on raw windows: ours, dense float32, dense int8, and two more for the reader."""
    dense, sparse = whole_model("dense", tokens), whole_model("sparse", tokens)
    runs = {
        OURS: open_onnx(int8_ours(sparse), threads),
        "dense float32": open_onnx(dense, threads),
        "dense int8": open_onnx(int8_usual(dense), threads),
        "sparse float32": open_onnx(sparse, threads),
        "dense, our int8 linear layers": open_onnx(int8_ours(dense), threads),
    }
    x = walks(make_model("sparse", tokens), tokens)
    expected = {name: _scores(make_model(name, tokens), x) for name in ("sparse", "dense")}
    window = x[:1].numpy()
    wrong = {
        name: distance(run(window), expected["sparse" if "sparse" in name else "dense"])
        for name, run in runs.items()
    }
    limits = {name: ALLOWED["int8" if "int8" in name else "float32"] for name in runs}
    return _compare(runs, window, seconds, wrong, limits)


def measure_encoder(tokens: int, threads: int, seconds: float) -> dict[str, Any]:
    """What comes after the stem, on tokens: ours and OpenVINO's dense one."""
    openvino, precision = open_openvino(tokens, threads)
    runs = {
        OURS: open_onnx(int8_ours(encoder("sparse", tokens)), threads),
        "OpenVINO dense": openvino,
        "OpenVINO dense, float32": open_openvino(tokens, threads, "f32")[0],
    }
    model = make_model("dense", tokens)
    x = embeddings(model, tokens)
    sparse = Encoder(make_model("sparse", tokens)).eval()
    window = x[:1].numpy()
    dense = _scores(Encoder(model).eval(), x)
    expected = {name: _scores(sparse, x) if name == OURS else dense for name in runs}
    wrong = {name: distance(run(window), expected[name]) for name, run in runs.items()}
    limits = {name: ALLOWED["float32" if "float32" in name else "int8"] for name in runs}
    found = _compare(runs, window, seconds, wrong, limits)
    return found | {"openvino_precision": precision}


def _scores(model: torch.nn.Module, x: torch.Tensor) -> FloatArray:
    with torch.no_grad():
        return np.asarray(model(x[:1]).numpy())


def distance(actual: FloatArray, expected: FloatArray) -> float:
    """Largest difference over the largest score."""
    return float(np.abs(actual - expected).max() / np.abs(expected).max())


def _compare(
    runs: dict[str, Run],
    window: FloatArray,
    seconds: float,
    wrong: dict[str, float],
    limits: dict[str, float],
) -> dict[str, Any]:
    times = time_by_name({name: partial(run, window) for name, run in runs.items()}, seconds=seconds)
    return {
        "rounds": len(times[OURS]),
        "milliseconds": {name: 1e3 * float(np.median(t)) for name, t in times.items()},
        "difference": wrong,
        "right": {name: wrong[name] <= limits[name] for name in runs},
        "over": {name: asdict(find_ratio(times[OURS], times[name])) for name in runs if name != OURS},
    }
