"""The models that `make prove-target` times: preset `small`, random weights, exactly a quarter of the blocks.

Time does not depend on the weights. Dense rivals get what we have: the same stem as one operator, GELU and
attention fused. For OpenVINO, which cannot run our stem, only what comes after it is compared, on both sides.

Shapes: `B` batch, `C` channels, `T` steps, `N` tokens, `W` width.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import onnxruntime
import torch
from torch import Tensor, nn

from edgesparse.model.transformer import SequenceTransformer, choose_sizes
from edgesparse.presets import small
from edgesparse.training.budget import set_selection
from edgesparse_export.program import to_onnx
from edgesparse_export.quantize.int8 import quantize_dynamically, quantize_natively
from edgesparse_runtime.engine import register

DENSITY = 0.25
CLASSES = 10
FloatArray = npt.NDArray[np.float32]
Run = Callable[[FloatArray], FloatArray]
Attention = Literal["dense", "sparse"]


class Encoder(nn.Module):
    """What comes after the stem: tokens [B, W, N] -> scores [B, classes]."""

    def __init__(self, model: SequenceTransformer) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens_BWN: Tensor) -> Tensor:
        tokens, _ = self.model.encode(tokens_BWN.mT, None)
        scores: Tensor = self.model.head(tokens.mean(1))
        return scores


@cache
def make_model(attention: Attention, tokens: int) -> SequenceTransformer:
    """The model with its stem fitted to random walks, and a quarter of the blocks kept."""
    config = choose_sizes(small(), [tokens * (small().patch or 1)])
    torch.manual_seed(0)
    model = SequenceTransformer(replace(config, attention=attention), channels=1, outputs=CLASSES).eval()
    # The convolution over values starts as zeros, which would be no test of it.
    for layer in model.layers:
        nn.init.normal_(layer.attention.value_conv.weight, std=0.2)  # type: ignore[union-attr, arg-type]
    model.fit_stem(walks(model, 512, count=32))
    if attention == "sparse":
        set_selection(model, 1.0, round(DENSITY * tokens / model.block_size))
    return model


def walks(model: SequenceTransformer, tokens: int, *, count: int = 2) -> Tensor:
    """Random walks [count, 1, T]."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, 1, tokens * model.patch, generator=generator).cumsum(-1)


def embeddings(model: SequenceTransformer, tokens: int) -> Tensor:
    """Two windows after the stem, [2, W, N]."""
    with torch.no_grad():
        return model.embed_window(walks(model, tokens))[0].mT.contiguous()


def whole_model(attention: Attention, tokens: int) -> onnx.ModelProto:
    """Raw windows to scores."""
    model = make_model(attention, tokens)
    return ir.to_proto(to_onnx(model, walks(model, tokens), lambda scores: scores))


def encoder(attention: Attention, tokens: int) -> onnx.ModelProto:
    """Tokens to scores."""
    model = make_model(attention, tokens)
    return ir.to_proto(to_onnx(Encoder(model).eval(), embeddings(model, tokens), lambda scores: scores))


def open_onnx(proto: onnx.ModelProto, threads: int) -> Run:
    """The model in onnxruntime with every optimization, and our library."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    engine = register(options)
    if engine.isa is None:
        raise SystemExit(f"This proof needs the native library; {engine.reason}.")
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return lambda x: np.asarray(session.run(["scores"], {"window": x})[0])


def open_openvino(tokens: int, threads: int, precision: str | None = None) -> tuple[Run, str]:
    """The dense encoder in OpenVINO, from PyTorch, and its precision: its default where none is asked for."""
    import openvino

    model = make_model("dense", tokens)
    example = embeddings(model, tokens)[:1]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(Encoder(model).eval(), (example,))
        converted = openvino.convert_model(program)
    settings: dict[str, Any] = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
    if precision is not None:
        settings["INFERENCE_PRECISION_HINT"] = precision
    compiled = openvino.Core().compile_model(converted, "CPU", settings)
    used = str(compiled.get_property("INFERENCE_PRECISION_HINT").to_string())
    return lambda x: np.asarray(compiled(x)[0]), used


def int8_ours(proto: onnx.ModelProto) -> onnx.ModelProto:
    """int8 as `edgesparse quantize` makes it."""
    return quantize_natively(proto)


def int8_usual(proto: onnx.ModelProto) -> onnx.ModelProto:
    """int8 as onnxruntime's own tool makes it: dynamic, one scale an output channel."""
    return quantize_dynamically(proto)
