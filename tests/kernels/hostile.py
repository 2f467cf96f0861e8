"""Feeds mutated models to the operators: `python -m tests.kernels.hostile LIB SEED COUNT`. Any crash ends it.

Prints a hash of all outputs: it must be the same whatever fills fresh memory. `make test-sanitize` runs this
under the sanitizers, with two fills.
"""

from __future__ import annotations

import hashlib
import sys
from dataclasses import asdict, replace

import numpy as np
import onnx

from tests.support.kernels.layer_models import FLOAT, LINEAR, make_layer_model
from tests.support.kernels.models import Shape, make_feeds, make_model, open_session
from tests.support.kernels.reference import Attributes

NUMBERS = [-(2**63), -1, 0, 1, 2, 3, 7, 16, 64, 2**31, 2**62, 2**63 - 1]
# One of each operator around attention.
LAYERS = (LINEAR[1], LINEAR[4], LINEAR[9], LINEAR[11], FLOAT[1], FLOAT[6], FLOAT[11], FLOAT[14])
FLOATS = [float("nan"), float("inf"), -1e38, 0.0, 0.25, 1e38]


def mutate(draw: np.random.Generator, attributes: dict[str, object], feeds: dict[str, np.ndarray]) -> None:
    """Changes one attribute or one input."""
    pick = list(attributes)[draw.integers(len(attributes))]
    if draw.random() < 0.5:
        if pick == "precision":
            attributes[pick] = ["int8", "float64", "", "x" * 100][draw.integers(4)]
        elif draw.random() < 0.1:
            del attributes[pick]
        else:
            attributes[pick] = (
                FLOATS[draw.integers(6)]
                if isinstance(attributes[pick], float)
                else NUMBERS[draw.integers(12)]
            )
        return
    name = list(feeds)[draw.integers(len(feeds))]
    kind = draw.integers(4)
    array = feeds[name]
    if kind == 0 and array.ndim:
        feeds[name] = np.take(
            array, np.arange(draw.integers(0, 70)), axis=draw.integers(array.ndim), mode="wrap"
        )
    elif kind == 1:
        feeds[name] = array[None]
    elif kind == 2:
        feeds[name] = array.reshape(-1)
    elif array.dtype == np.float32 and array.size:
        feeds[name] = np.full_like(array, FLOATS[draw.integers(6)])
    elif array.dtype == np.int64:
        feeds[name] = np.array([NUMBERS[draw.integers(12)]])


def mutate_graph(draw: np.random.Generator, model: onnx.ModelProto) -> None:
    """Changes the node itself: its inputs, outputs or the type that an input is declared with."""
    node = model.graph.node[0]
    kind = draw.integers(6)
    pick = int(draw.integers(len(node.input)))
    if kind == 0:
        del node.input[pick:]
    elif kind == 1:
        node.input[pick] = ""
    elif kind == 2:
        node.input[pick] = node.input[int(draw.integers(len(node.input)))]
    elif kind == 3:
        node.input.append(node.input[pick])
    elif kind == 4:
        model.graph.input[pick].type.tensor_type.elem_type = int(draw.integers(0, 20))
    else:
        node.output.append("more")


def main() -> None:
    """Prints how many models ran, how many were refused, and the hash of what came out."""
    library, seed, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    draw = np.random.default_rng(seed)
    ran = refused = 0
    outputs = hashlib.sha256()
    for _ in range(count):
        node = LAYERS[draw.integers(len(LAYERS))] if draw.random() < 0.5 else None
        if node is None:
            precision = ["float32", "int8"][draw.integers(2)]
            attributes = asdict(Attributes(num_heads=2, kv_num_heads=1, block_size=16, precision=precision))
            feeds = dict(make_feeds(Shape(60, 60, h=2, g=1), 16, seed=int(draw.integers(99))))
        else:
            attributes, feeds = dict(node.attributes), dict(node.feeds)
        for _ in range(draw.integers(0, 4)):
            if attributes:
                mutate(draw, attributes, feeds)
        ranked = bool(draw.integers(2))
        if node is None:
            model = make_model(attributes, ranked=ranked)
        else:
            changed = replace(node, attributes=attributes, feeds=feeds)
            model = make_layer_model(changed, with_body=False, ranked=ranked)
        if draw.random() < 0.3:
            mutate_graph(draw, model)
        try:
            results = open_session(library, model, 2, arena=False).run(None, feeds)
            ran += 1
            for result in results:
                outputs.update(result.tobytes())
        except Exception as error:  # onnxruntime raises a class of its own for each status
            if not str(error):
                raise SystemExit("an error without a message") from error
            refused += 1
    print(f"ran {ran} refused {refused} outputs {outputs.hexdigest()}")


if __name__ == "__main__":
    main()
