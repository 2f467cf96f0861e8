"""`python -m benchmarks.processors.write_folder FOLDER [CASE...]`: what `measure.py` times elsewhere.

One node of attention and of `Linear`, the whole model of preset `small` at several lengths, and its
encoder beside OpenVINO's (where openvino is installed; its int8 where nncf is). Random weights: times do not
depend on them. FOLDER also gets the operator library of this machine's kind, and `measure.py`.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper

from benchmarks.target.models import (
    Encoder,
    embeddings,
    encoder,
    int8_ours,
    int8_usual,
    make_model,
    walks,
    whole_model,
)
from edgesparse_runtime.engine import get_library_path
from tests.support.kernels.layer_models import linear, make_layer_model
from tests.support.kernels.models import INPUTS
from tests.support.kernels.models import make_model as make_attention
from tests.support.kernels.reference import Attributes

# Tokens, heads, head size, block size, blocks kept.
ATTENTION = (
    (4096, 8, 64, 64, 8),
    (4096, 4, 32, 64, 8),
    (2048, 8, 64, 64, 8),
    (1024, 4, 32, 16, 16),
    (256, 4, 32, 16, 4),
)
# Rows, depth, columns, and what else the operator does.
LINEAR: tuple[tuple[int, int, int, dict[str, Any]], ...] = (
    *((rows, 256, 256, {}) for rows in (1, 4, 16, 180, 2048)),
    (180, 512, 2048, {}),
    (180, 512, 2048, {"gelu": 1}),
    (2048, 512, 2048, {}),
    (2048, 512, 2048, {"gelu": 1}),
    (180, 2048, 512, {}),
    (2048, 2048, 512, {}),
    (2048, 128, 384, {"normalize": 1, "parts": 3}),
)
TOKENS = (32, 64, 128, 180, 256, 512, 1024, 2048, 4096)
ENCODED = (256, 2048)
Case = dict[str, Any]


def write_attention(folder: Path, size: tuple[int, int, int, int, int]) -> Case:
    """Our operator in both precisions, and onnxruntime's fused dense one."""
    tokens, heads, head_size, block, kept = size
    name = f"attention_N{tokens}_H{heads}_D{head_size}_B{block}"
    rows, blocks = [1, tokens, heads * head_size], -(-tokens // block)
    feeds = {
        **{part: ["normal", rows] for part in ("query", "key", "value")},
        "block_scores": ["normal", [1, heads, blocks, blocks]],
        "top_p": ["float", 1.0],
        "max_blocks": ["int", kept],
        "key_mask": ["true", [1, tokens]],
    }
    assert set(feeds) == set(INPUTS)
    protos = {}
    for precision in ("int8", "float32"):
        node = Attributes(
            num_heads=heads,
            kv_num_heads=heads,
            block_size=block,
            scale=head_size**-0.5,
            summaries=1,
            is_causal=0,
            precision=precision,
        )
        protos[f"{name}_{precision}"] = make_attention(asdict(node), with_selection=False)
    protos[f"dense_N{tokens}_H{heads}_D{head_size}"] = _fused_dense(heads)
    return {"feeds": feeds, "models": [_save(folder, key, proto) for key, proto in protos.items()]}


def write_linear(folder: Path, size: tuple[int, int, int, dict[str, Any]]) -> Case:
    """One int8 `Linear`, its weights constants as in a model."""
    rows, depth, columns, more = size
    node = linear(rows, depth, columns, batch=1, **more)
    proto = make_layer_model(node, with_body=False)
    for given in list(proto.graph.input):
        if given.name != "x":
            proto.graph.initializer.append(
                onnx.numpy_helper.from_array(np.ascontiguousarray(node.feeds[given.name]), given.name)
            )
            proto.graph.input.remove(given)
    name = "_".join([f"linear_M{rows}_{depth}x{columns}", *(f"{key}{n}" for key, n in more.items())])
    return {"feeds": {"x": ["normal", [1, rows, depth]]}, "models": [_save(folder, name, proto)]}


def write_whole(folder: Path, tokens: int) -> Case:
    """Raw windows to scores: ours in both precisions, dense in float32 and in onnxruntime's own int8."""
    dense, sparse = whole_model("dense", tokens), whole_model("sparse", tokens)
    protos = {
        "sparse_int8": int8_ours(sparse),
        "sparse_float32": sparse,
        "dense_float32": dense,
        "dense_int8_usual": int8_usual(dense),
    }
    steps = tokens * make_model("sparse", tokens).patch
    models = [_save(folder, f"whole_{tokens}_{key}", proto) for key, proto in protos.items()]
    return {"feeds": {"window": ["walk", [1, 1, steps]]}, "models": models}


def write_encoder(folder: Path, tokens: int) -> Case:
    """What comes after the stem, ours and OpenVINO's: its default precision, float32, and int8 by NNCF."""
    name, model = f"encoder_{tokens}", make_model("dense", tokens)
    example = embeddings(model, tokens)[:1]
    models = [
        _save(folder, f"{name}_sparse_int8", int8_ours(encoder("sparse", tokens))),
        _save(folder, f"{name}_dense_float32", encoder("dense", tokens)),
    ]
    if find_spec("openvino"):
        import openvino

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.export.export(Encoder(model).eval(), (example,))
            converted = openvino.convert_model(program)
        path = folder / f"{name}_openvino.xml"
        openvino.save_model(converted, path, compress_to_fp16=False)
        models.append(_entry(f"{name}_openvino_default", path))
        models.append(_entry(f"{name}_openvino_float32", path, "f32"))
        if find_spec("nncf"):
            path = folder / f"{name}_openvino_int8.xml"
            openvino.save_model(_quantized(converted, tokens), path)
            models.append(_entry(f"{name}_openvino_int8", path))
    return {"feeds": {"window": ["normal", list(example.shape)]}, "models": models}


def cases(folder: Path) -> Iterator[tuple[str, Callable[[], Case]]]:
    """Each case's name, and what writes it."""
    for size in ATTENTION:
        yield f"attention_N{size[0]}_H{size[1]}", partial(write_attention, folder, size)
    for rows, depth, columns, more in LINEAR:
        name = "_".join([f"linear_M{rows}_{depth}x{columns}", *more])
        yield name, partial(write_linear, folder, (rows, depth, columns, more))
    for tokens in ENCODED:
        yield f"encoder_{tokens}", partial(write_encoder, folder, tokens)
    for tokens in TOKENS:
        yield f"whole_{tokens}", partial(write_whole, folder, tokens)


def _fused_dense(heads: int) -> onnx.ModelProto:
    names = ("query", "key", "value")
    node = helper.make_node("MultiHeadAttention", names, ["output"], domain="com.microsoft", num_heads=heads)
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [None] * 3) for n in (*names, "output")]
    graph = helper.make_graph([node], "dense", values[:3], values[3:])
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def _kernel_info() -> onnx.ModelProto:
    """Asks the library which instruction set it loaded."""
    node = helper.make_node("KernelInfo", [], ["isa"], domain="edgesparse")
    value = helper.make_tensor_value_info("isa", TensorProto.STRING, None)
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("edgesparse", 1)]
    return helper.make_model(
        helper.make_graph([node], "info", [], [value]), opset_imports=opsets, ir_version=10
    )


def _quantized(converted: Any, tokens: int) -> Any:
    """OpenVINO's dense encoder in int8, calibrated on 64 windows."""
    import nncf

    model = make_model("dense", tokens)
    with torch.no_grad():
        windows = model.embed_window(walks(model, tokens, count=64))[0].mT.numpy()
    data = nncf.Dataset([window[None] for window in windows])
    return nncf.quantize(converted, data, model_type=nncf.ModelType.TRANSFORMER, subset_size=64)


def _save(folder: Path, name: str, proto: onnx.ModelProto) -> dict[str, Any]:
    path = folder / f"{name}.onnx"
    path.write_bytes(proto.SerializeToString())
    return _entry(name, path)


def _entry(name: str, path: Path, precision: str | None = None) -> dict[str, Any]:
    """A model as `measure.py` reads it; a dense one runs no kernel whose instruction set matters."""
    kernels = path.suffix == ".xml" or "dense" not in name
    return {"name": name, "file": path.name, "precision": precision, "kernels": kernels}


def main() -> int:
    """Writes the folder."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("cases", nargs="*", help="beginnings of cases' names; default: all")
    chosen = parser.parse_args()
    library = get_library_path()
    if library is None:
        print("The operator library is not installed; see docs/guides/deploy.md.", file=sys.stderr)
        return 2
    folder: Path = chosen.folder
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(library, folder / "edgesparse_kernels.so")
    shutil.copy(Path(__file__).with_name("measure.py"), folder)
    _save(folder, "kernel_info", _kernel_info())
    written = {}
    for name, write in cases(folder):
        if not chosen.cases or name.startswith(tuple(chosen.cases)):
            written[name] = write()
            (folder / "cases.json").write_text(json.dumps(written, indent=1) + "\n")
            print(name, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
