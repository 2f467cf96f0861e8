"""`step` and `block` as one operator each: `edgesparse::TokenStep` and `edgesparse::CloseBlock`.

Each is emitted while its program is exported, and its body is that program, traced: any onnxruntime runs it,
and our library computes it in one call (docs/reference/operator.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import onnx_ir as ir
import torch
from torch import Tensor, nn
from torch.func import functional_call

from edgesparse.model.transformer import Layer
from edgesparse_export.functions.domain import DOMAIN, VERSION
from edgesparse_export.functions.traced import traced_function
from edgesparse_export.step.block_program import BlockProgram
from edgesparse_export.step.token_program import StepProgram

TOKEN_STEP, CLOSE_BLOCK = "TokenStep", "CloseBlock"
Attributes = dict[str, int | float | list[int]]


@dataclass(frozen=True)
class Part:
    """One tensor of `TokenStep`'s parameters.

    Attributes:
        name: of the program's parameter or buffer.
        shape: of that.
        is_turned: it lies there with its first axis last, as a product of a row wants it.
    """

    name: str
    shape: torch.Size
    is_turned: bool

    def stored(self, tensor: Tensor) -> Tensor:
        """The tensor as one row."""
        return (tensor.flatten(1).T if self.is_turned else tensor).flatten()

    def restored(self, row: Tensor) -> Tensor:
        """The tensor from its row."""
        if not self.is_turned:
            return row.view(self.shape)
        first, *rest = self.shape
        return row.view(-1, first).T.reshape(first, *rest)


class TokenStepOperator(nn.Module):
    """Emits `edgesparse::TokenStep` in place of a `StepProgram`; same inputs and outputs."""

    weights: Tensor

    def __init__(self, program: StepProgram) -> None:
        super().__init__()
        self.attributes = _token_attributes(program)
        self.outputs, self.width = program.model.outputs, program.model.config.width
        self.register_buffer("weights", step_parameters(program))

    def forward(self, *state: Tensor) -> tuple[Tensor, ...]:
        samples, block_key, past_key = state[0], state[5], state[7]
        layers, groups, _, size = block_key.shape
        found: Sequence[Tensor] = torch.onnx.ops.symbolic_multi_out(
            f"{DOMAIN}::{TOKEN_STEP}",
            (*state, self.weights),
            {**self.attributes},
            dtypes=(torch.float32,) * 6,
            shapes=(
                (self.outputs,),
                samples.shape,
                (self.width,),
                (layers, past_key.shape[1], size),
                (layers, groups, size),
                (layers, groups, size),
            ),
            version=VERSION,
        )
        return tuple(found)


class TokenStepBody(nn.Module):
    """`StepProgram` with its parameters as the last input: the body of `edgesparse::TokenStep`."""

    def __init__(self, program: StepProgram) -> None:
        super().__init__()
        self.program = program
        self.parts = _parts(program)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        *state, parameters = inputs
        rows = torch.split(parameters, [part.shape.numel() for part in self.parts])
        own = {part.name: part.restored(row) for part, row in zip(self.parts, rows, strict=True)}
        outputs: tuple[Tensor, ...] = functional_call(self.program, own, tuple(state))
        return outputs


class CloseBlockOperator(nn.Module):
    """Emits `edgesparse::CloseBlock` in place of the `BlockProgram` of a sparse model."""

    query_weight: Tensor
    key_weight: Tensor

    def __init__(self, program: BlockProgram) -> None:
        super().__init__()
        self.config = program.config
        for name, weight in zip(("query_weight", "key_weight"), program.router_weights(), strict=True):
            self.register_buffer(name, weight)

    def forward(self, *state: Tensor) -> tuple[Tensor, ...]:
        query, keys = state[:2]
        layers, heads, block, size = query.shape
        groups, tokens = keys.shape[2], keys.shape[0] * block
        # How many tokens a head looks at is known after the choice only; `files.py` takes it out again.
        shapes = (
            *((layers, heads, tokens, size),) * 2,
            (layers, heads, 1, tokens),
            *((layers, groups, size),) * 3,
        )
        found: Sequence[Tensor] = torch.onnx.ops.symbolic_multi_out(
            f"{DOMAIN}::{CLOSE_BLOCK}",
            (*state, self.query_weight, self.key_weight),
            {"window": self.config.window, "summaries": int(self.config.summaries)},
            dtypes=(torch.float32,) * 6,
            shapes=shapes,
            version=VERSION,
        )
        return tuple(found)


def step_parameters(program: StepProgram) -> Tensor:
    """All weights of a `StepProgram` as one row, in the order in which `TokenStep` reads them."""
    tensors = {**dict(program.named_parameters()), **dict(program.named_buffers())}
    return torch.cat([part.stored(tensors[part.name].detach()) for part in _parts(program)])


def add_body(model: ir.Model, traced: ir.Model, name: str) -> None:
    """Makes a traced program the body of the operator of that name, which `model` holds one node of."""
    node = next(n for n in model.graph if (n.domain, n.op_type) == (DOMAIN, name))
    function = traced_function(traced, node)
    model.functions[function.identifier()] = function
    model.opset_imports[DOMAIN] = VERSION


def _token_attributes(program: StepProgram) -> Attributes:
    model = program.model
    layer = model.layers[0]
    assert isinstance(layer, Layer)
    attention = layer.attention.config
    up = layer.feed_forward[0]
    assert isinstance(up, nn.Linear)
    dilations, filters, thresholds = model.bank.threshold.shape
    assert dilations == len(model.bank.dilations)
    return {
        "num_heads": attention.num_heads,
        "kv_num_heads": attention.groups,
        "filters": filters,
        "thresholds": thresholds,
        "dilations": list(model.bank.dilations),
        "inner": up.out_features,
        "outputs": model.outputs,
        "value_filter": attention.value_filter,
        "epsilon": model.norm.eps,
        "scale": layer.attention.scale,
    }


def _parts(program: StepProgram) -> list[Part]:
    """What `TokenStep` reads, in its order: docs/reference/operator.md."""
    names = ["model.normalize.center", "model.normalize.spread"]
    names += ["taps", "slope", "lift", "embed_weight", "embed_bias"]
    for i, layer in enumerate(program.model.layers):
        assert isinstance(layer, Layer)
        own = ["norm_attention.weight", "norm_attention.bias"]
        own += ["attention.project_in.weight", "attention.project_in.bias"]
        own += [] if layer.attention.value_conv is None else ["attention.value_conv.weight"]
        own += ["attention.project_out.weight", "attention.project_out.bias"]
        own += ["norm_feed_forward.weight", "norm_feed_forward.bias"]
        own += [f"feed_forward.{place}.{kind}" for place in (0, 3) for kind in ("weight", "bias")]
        names += [f"model.layers.{i}.{name}" for name in own]
    names += ["model.norm.weight", "model.norm.bias", "model.head.weight", "model.head.bias"]
    tensors = {**dict(program.named_parameters()), **dict(program.named_buffers())}
    # PyTorch's weights of a linear layer and of a convolution have the outputs first.
    return [
        Part(name, tensors[name].shape, name.startswith("model.") and tensors[name].ndim > 1)
        for name in names
    ]
