"""A trained model to one ONNX file: raw windows in, decision scores out, the operator as a function body.

The graph:

```
window    float32 [batch, channels, time]     raw; NaN = missing; a tail of NaN in all channels = padding
top_p     float32 [layers, heads]             sparse models only; has a default, may be overridden
max_blocks int64  [1]                         sparse models only; has a default, may be overridden
  -> scores           float32 [batch, classes or targets]
  -> unknown          float32 [batch]                            models that tell; above 1 = none of these
  -> token_scores     float32 [batch, tokens, classes or targets]   causal models only
  -> selection.<layer> bool   [batch, heads, query blocks, key blocks]   sparse models only
```
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence

import onnx_ir as ir
import torch
from torch import Tensor, nn
from torch.func import functional_call

from edgesparse.attention.layer import SparseAttention
from edgesparse.attention.record import attention_records
from edgesparse.model.skip import Skip
from edgesparse.model.transformer import SequenceTransformer
from edgesparse.training.budget import sparse_layers
from edgesparse.unknown.score import UnknownScore
from edgesparse_export.functions.attach import attach_bodies
from edgesparse_export.passes.emit_operators import operators_in_place
from edgesparse_export.passes.masks import share_masks
from edgesparse_export.passes.value_convolution import fuse_value_convolutions
from edgesparse_export.trace import trace

Postprocess = Callable[[Tensor], Tensor]


class _Scores(nn.Module):
    """Raw windows to decision scores.

    Of a causal model, those at the end of each token too; of one that tells, how unlike all training windows
    each is.
    """

    def __init__(self, model: nn.Module, to_scores: Postprocess, unknown: UnknownScore | None) -> None:
        super().__init__()
        self.model = model
        self.to_scores = to_scores
        self.unknown = unknown

    def forward(self, window: Tensor) -> tuple[Tensor, ...]:
        if not is_causal(self.model):
            if self.unknown is None:
                return (self.to_scores(self.model(window)),)
            assert isinstance(self.model, SequenceTransformer) and self.model.skip is not None
            with _features_of(self.model.skip) as features:
                scores = self.to_scores(self.model(window))
            return scores, self.unknown(features[0])
        token_scores = self.to_scores(self.model.score_tokens(window))  # type: ignore[operator]
        return token_scores[:, -1], token_scores


@contextlib.contextmanager
def _features_of(skip: Skip) -> Iterator[list[Tensor]]:
    """What the skip's features are, standardized, while the model runs: computed once for both."""
    found: list[Tensor] = []
    standardize = skip.standardized

    def keep(raw_BF: Tensor) -> Tensor:
        found.append(standardize(raw_BF))
        return found[-1]

    skip.standardized = keep  # type: ignore[method-assign]
    try:
        yield found
    finally:
        del skip.standardized


class _Program(nn.Module):
    """The graph above, as a module: selection knobs as inputs, selections as outputs."""

    def __init__(self, model: nn.Module, to_scores: Postprocess, unknown: UnknownScore | None = None) -> None:
        super().__init__()
        self.scores = _Scores(model, to_scores, unknown)

    def forward(
        self, window: Tensor, top_p: Tensor | None = None, max_blocks: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        names = [f"model.{name}" for name in module_names(self.scores.model)]
        buffers = knob_buffers(names, top_p, max_blocks)
        with attention_records(self.scores) as records:
            scores: tuple[Tensor, ...] = functional_call(self.scores, buffers, (window,))
        selections = (record.selection for record in records.values())
        return (*scores, *(x for x in selections if x is not None))


def knob_buffers(
    names: Sequence[str], top_p_LH: Tensor | None, max_blocks: Tensor | None
) -> dict[str, Tensor]:
    """The graph's inputs in place of the buffers of the layers of these names; none for a dense graph."""
    if top_p_LH is None or max_blocks is None:
        return {}
    buffers: dict[str, Tensor] = {}
    for i, name in enumerate(names):
        buffers |= {f"{name}.top_p": top_p_LH[i], f"{name}.max_blocks": max_blocks}
    return buffers


def to_onnx(
    model: nn.Module, example: Tensor, to_scores: Postprocess, unknown: UnknownScore | None = None
) -> ir.Model:
    """Export `model` with dynamic batch and time.

    Args:
        model: takes raw windows [B, channels, time] and returns logits or targets [B, n].
        example: raw windows, at least two of them, long enough for two blocks.
        to_scores: what turns the model's output into decision scores (softmax, a target's unit).
        unknown: tells windows unlike all training windows, of a model with a skip.

    Returns:
        The model in standard operators and ours, the latter with their bodies.
    """
    was_training = model.training
    model.eval()
    layers = sparse_layers(model)
    inputs: list[Tensor] = [example]
    shapes: list[dict[int, object]] = [{0: torch.export.Dim.DYNAMIC, 2: torch.export.Dim.DYNAMIC}]
    if layers:
        inputs += [torch.stack([layer.top_p for layer in layers]), layers[0].max_blocks.clone()]
        shapes += [{}, {}]
    for layer in layers:
        layer.warmup = False
    scores = ["scores", "token_scores"] if is_causal(model) else ["scores"]
    scores += [] if unknown is None else ["unknown"]
    names = ["window", "top_p", "max_blocks"][: len(inputs)]
    try:
        with operators_in_place(model):
            onnx_model = trace(
                _Program(model, to_scores, unknown),
                inputs,
                names,
                [*scores, *(f"selection.{i}" for i in range(len(layers)))],
                shapes,
            )
    finally:
        model.train(was_training)
    fuse_value_convolutions(onnx_model)
    share_masks(onnx_model)
    attach_bodies(onnx_model)
    if layers:
        give_defaults(onnx_model, dict(zip(names[1:], inputs[1:], strict=True)))
    _name_dimensions(onnx_model)
    return onnx_model


def is_causal(model: nn.Module) -> bool:
    """True for a model of ours whose tokens see the past only."""
    return isinstance(model, SequenceTransformer) and model.config.causal


def module_names(model: nn.Module) -> list[str]:
    """Names of the sparse attention modules, in the order of `top_p` and `selection.<layer>`."""
    return [
        name for name, m in model.named_modules() if isinstance(m, SparseAttention) and m.router is not None
    ]


def give_defaults(onnx_model: ir.Model, values: dict[str, Tensor]) -> None:
    """Make inputs optional: an input that is also an initializer has a default and may be overridden."""
    for value in onnx_model.graph.inputs:
        if value.name in values:
            value.const_value = ir.tensor(values[value.name].numpy(), name=value.name)
            onnx_model.graph.register_initializer(value)


def _name_dimensions(onnx_model: ir.Model) -> None:
    window = onnx_model.graph.inputs[0]
    assert window.shape is not None
    window.shape = ir.Shape(["batch", window.shape[1], "time"])
