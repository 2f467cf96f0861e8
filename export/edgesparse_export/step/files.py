"""A causal model to two small ONNX files that carry a stream on token by token (docs/guides/streaming.md).

`step` computes one token from the tokens before it; `block` is run when a block of tokens is full, and
prepares what the next block's tokens look at. All state is the caller's: both are functions of their inputs.

```
step   samples      [C, p]           raw steps of the token so far, 1 to patch of them
       history      [C, R]           normalized steps before the token; zeros before the first
       token_sum    [W], token_count [1]     of the tokens before
       value_tail   [L, kernel-1, G*E]       values of the tokens before; zeros before the first
       block_key    [L, G, r, D], block_value [L, G, r, E]    the diagonal block so far, 0 to b-1 tokens
       past_key     [L, H, S, D], past_value [L, H, S, E], past_bias [L, H, 1, S]   from `block`
    -> scores [n], normal [C, p], token [W], query [L, H, D], key [L, G, D], value [L, G, E]
block  query        [L, H, b, D]     of the block that is full, the last of n
       keys         [n, L, G, b, D], values [n, L, G, b, E]   all full blocks
       mean_keys    [n-1, L, G, D], mean_values [n-1, L, G, E], route_keys [n-1, L, G, D]
       top_p        [L, H], max_blocks [1]   optional inputs with a default
    -> past_key, past_value, past_bias, mean_key [L, G, D], mean_value [L, G, E], route_key [L, G, D]
```

Before the first block is full, `past` is one token with a bias of minus infinity. Layers are a batch
dimension of `block`. `C` channels, `R` steps that the stem looks back, `W` width, `L` layers, `H`/`G` query
and key/value heads, `D`/`E` head sizes, `b` block size, `S` tokens that a head looks at.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TypeGuard

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import torch
from torch import Tensor, nn

from edgesparse.model.transformer import SequenceTransformer
from edgesparse.training.budget import sparse_layers
from edgesparse_export.parity import ABSOLUTE, RELATIVE
from edgesparse_export.program import Postprocess, give_defaults
from edgesparse_export.step.block_program import BlockProgram, attention_layers
from edgesparse_export.step.operators import (
    CLOSE_BLOCK,
    TOKEN_STEP,
    CloseBlockOperator,
    TokenStepBody,
    TokenStepOperator,
    add_body,
    step_parameters,
)
from edgesparse_export.step.token_program import StepProgram, history_steps
from edgesparse_export.trace import trace
from edgesparse_runtime.errors import GateError
from edgesparse_runtime.session import Session
from edgesparse_runtime.stream.step.replay import run_tokens, without_padding
from edgesparse_runtime.stream.step.token_stream import StepFacts, StepModel

STEP_OUTPUTS = ("scores", "normal", "token", "query", "key", "value")
STEP, BLOCK = "model.step.onnx", "model.block.onnx"
# Windows that the verdict compares; each is some hundred tokens.
COMPARED = 2
FloatArray = npt.NDArray[np.float32]
BLOCK_OUTPUTS = ("past_key", "past_value", "past_bias", "mean_key", "mean_value", "route_key")


def can_step(model: nn.Module) -> TypeGuard[SequenceTransformer]:
    """True for causal classifiers and regressors; a forecaster's head looks at more than tokens."""
    return type(model) is SequenceTransformer and model.config.causal


def step_part(
    model: SequenceTransformer, to_scores: Postprocess, session: Session, windows: FloatArray
) -> tuple[dict[str, bytes], dict[str, object]]:
    """Files and manifest field of the step model, once it outputs what the whole model outputs.

    Args:
        session: the exported whole model.
        windows: raw windows [n, C, T] to compare the two on, token by token.

    Raises:
        GateError: they differ by more than the tolerance between engines.
    """
    facts = StepFacts(STEP, BLOCK, **step_fields(model))
    step, block = step_files(model, to_scores)
    opened = StepModel(facts, step, block, channels=model.channels)
    largest = 0.0
    for window in windows[:COMPARED]:
        window = without_padding(window)
        expected = session.token_scores(window)[0]
        actual = run_tokens(opened, window)
        difference = np.abs(actual - expected)
        largest = max(largest, float(difference.max()))
        if (difference > ABSOLUTE + RELATIVE * np.abs(expected)).any():
            raise GateError(
                f"The step model must output what the whole model outputs; the largest score difference is "
                f"{largest:.2e}. Nothing was written."
            )
    return {STEP: step, BLOCK: block}, {**asdict(facts), "largest_difference": largest}


def step_files(model: SequenceTransformer, to_scores: Postprocess) -> tuple[bytes, bytes]:
    """The ONNX files `step` and `block` of a causal model."""
    was_training = model.training
    model.eval()
    try:
        return _export_step(model, to_scores), _export_block(model)
    finally:
        model.train(was_training)


def step_fields(model: SequenceTransformer) -> dict[str, int]:
    """What a runner must know to hold the state."""
    attention = attention_layers(model)[0].config
    return {
        "steps_per_token": model.patch,
        "history": history_steps(model),
        "width": attention.width,
        "layers": len(model.layers),
        "num_heads": attention.num_heads,
        "kv_num_heads": attention.groups,
        "head_size": attention.head_size,
        "block_size": attention.block_size,
        "value_filter": attention.value_filter,
    }


def _export_step(model: SequenceTransformer, to_scores: Postprocess) -> bytes:
    f = step_fields(model)
    layers, heads, groups, size = f["layers"], f["num_heads"], f["kv_num_heads"], f["head_size"]
    own, past = min(2, f["block_size"]), 5
    inputs = {
        "samples": torch.randn(model.channels, model.patch),
        "history": torch.randn(model.channels, f["history"]),
        "token_sum": torch.randn(f["width"]),
        "token_count": torch.ones(1),
        "value_tail": torch.randn(layers, max(0, f["value_filter"] - 1), groups * size),
        "block_key": torch.randn(layers, groups, own, size),
        "block_value": torch.randn(layers, groups, own, size),
        "past_key": torch.randn(layers, heads, past, size),
        "past_value": torch.randn(layers, heads, past, size),
        "past_bias": torch.zeros(layers, heads, 1, past),
    }
    dynamic: dict[str, dict[int, object]] = {name: {} for name in inputs}
    if model.patch > 1:
        dynamic["samples"] = {1: torch.export.Dim.DYNAMIC}
    for name in ("block_key", "block_value", "past_key", "past_value"):
        dynamic[name] = {2: torch.export.Dim.DYNAMIC}
    dynamic["past_bias"] = {3: torch.export.Dim.DYNAMIC}
    program = StepProgram(model).eval()
    onnx_model = _trace(_Scored(TokenStepOperator(program), to_scores), inputs, dynamic, STEP_OUTPUTS)
    weights = {"parameters": step_parameters(program)}
    body = _trace(TokenStepBody(program), inputs | weights, dynamic | {"parameters": {}}, STEP_OUTPUTS)
    add_body(onnx_model, body, TOKEN_STEP)
    return _content(onnx_model)


def _export_block(model: SequenceTransformer) -> bytes:
    f = step_fields(model)
    layers, heads, groups, size, block = (
        f["layers"],
        f["num_heads"],
        f["kv_num_heads"],
        f["head_size"],
        f["block_size"],
    )
    full = 4
    inputs = {
        "query": torch.randn(layers, heads, block, size),
        "keys": torch.randn(full, layers, groups, block, size),
        "values": torch.randn(full, layers, groups, block, size),
        "mean_keys": torch.randn(full - 1, layers, groups, size),
        "mean_values": torch.randn(full - 1, layers, groups, size),
        "route_keys": torch.randn(full - 1, layers, groups, size),
    }
    dynamic: dict[str, dict[int, object]] = {name: {} for name in inputs}
    for name in ("keys", "values", "mean_keys", "mean_values", "route_keys"):
        dynamic[name] = {0: torch.export.Dim.DYNAMIC}
    sparse = sparse_layers(model)
    knobs = {
        "top_p": torch.stack([layer.top_p for layer in sparse]) if sparse else torch.ones(layers, heads),
        "max_blocks": sparse[0].max_blocks.clone() if sparse else torch.ones(1, dtype=torch.int64),
    }
    dynamic |= {name: {} for name in knobs}
    inputs |= knobs
    program = BlockProgram(model).eval()
    if not program.is_sparse:
        onnx_model = _trace(_Plain(program), inputs, dynamic, BLOCK_OUTPUTS)
    else:
        onnx_model = _trace(CloseBlockOperator(program), inputs, dynamic, BLOCK_OUTPUTS)
        for value in onnx_model.graph.outputs[:3]:
            assert value.shape is not None
            axis = 3 if value.name == "past_bias" else 2
            value.shape = ir.Shape([None if i == axis else size for i, size in enumerate(value.shape)])
        weights = dict(zip(("query_weight", "key_weight"), program.router_weights(), strict=True))
        no_dynamic: dict[str, dict[int, object]] = {name: {} for name in weights}
        add_body(
            onnx_model,
            _trace(_Plain(program), inputs | weights, dynamic | no_dynamic, BLOCK_OUTPUTS),
            CLOSE_BLOCK,
        )
    give_defaults(onnx_model, knobs)
    return _content(onnx_model)


class _Scored(nn.Module):
    """The step with scores in place of logits."""

    def __init__(self, step: nn.Module, to_scores: Postprocess) -> None:
        super().__init__()
        self.step = step
        self.to_scores = to_scores

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        logits, *rest = self.step(*inputs)
        return self.to_scores(logits), *rest


class _Plain(nn.Module):
    """A program by position, as the operators are."""

    def __init__(self, program: nn.Module) -> None:
        super().__init__()
        self.program = program

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        outputs: tuple[Tensor, ...] = self.program(*inputs)
        return outputs


def _trace(
    program: nn.Module,
    inputs: dict[str, Tensor],
    dynamic: dict[str, dict[int, object]],
    outputs: tuple[str, ...],
) -> ir.Model:
    return trace(program.eval(), list(inputs.values()), list(inputs), outputs, [tuple(dynamic.values())])


def _content(model: ir.Model) -> bytes:
    content: bytes = ir.to_proto(model).SerializeToString()
    return content
