"""A sparsified model to one ONNX file: its own named inputs, its main output, the knobs and the selections.

```
<name>     as the model takes it               batch is free; so are tokens, where inputs are ids
top_p      float32 [layers, heads]             has a default, may be overridden; in the sparse form only
max_blocks int64   [1]                         the same
  -> scores            float32                 the model's main output: `last_hidden_state` or `logits`
  -> <further outputs> float32                 what the module names in `further_outputs`
  -> selection.<layer> bool    [batch, heads, query blocks, key blocks]   in the sparse form only
```
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import onnx_ir as ir
import torch
from torch import Tensor, nn
from torch.func import functional_call

from edgesparse.attention.record import attention_records
from edgesparse.dropin.attention import DropinAttention, Mode
from edgesparse.dropin.layers import attention_mode, dropin_layers, layer_names, window_layers
from edgesparse.dropin.outputs import Batch, main_output, run_model
from edgesparse_export.dropin.sampled_scores import add_sampled_body
from edgesparse_export.functions.attach import attach_bodies
from edgesparse_export.passes.emit_operators import operators_in_place
from edgesparse_export.program import give_defaults, knob_buffers
from edgesparse_export.trace import trace
from edgesparse_runtime.errors import InputError


def named_tensors(batch: Batch) -> dict[str, Tensor]:
    """The batch as tensors by input name; a lone tensor is called `input`."""
    return {"input": batch} if isinstance(batch, Tensor) else dict(batch)


class _Program(nn.Module):
    """The graph above, as a module."""

    def __init__(self, model: nn.Module, names: list[str]) -> None:
        super().__init__()
        self.model, self.names = model, names

    def forward(
        self, inputs: tuple[Tensor, ...], top_p: Tensor | None = None, max_blocks: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        buffers = knob_buffers(layer_names(self.model), top_p, max_blocks)
        named = dict(zip(self.names, inputs, strict=True))
        is_lone = self.names == ["input"]
        with attention_records(self.model) as records:
            result = functional_call(self.model, buffers, inputs if is_lone else (), {} if is_lone else named)
        selections = (record.selection for record in records.values())
        further = (result[name] for name in further_outputs(self.model))
        return (main_output(result), *further, *(x for x in selections if x is not None))


def further_outputs(model: nn.Module) -> tuple[str, ...]:
    """Outputs of the graph besides the main one, where a module of ours has such."""
    names = getattr(model, "further_outputs", ())
    return names if isinstance(names, tuple) else ()


def dropin_to_onnx(model: nn.Module, batch: Batch, *, dense: bool = False, exact: bool = False) -> ir.Model:
    """Export a sparsified model.

    Args:
        batch: at least two rows, long enough for two blocks.
        dense: with onnxruntime's fused dense attention in place of ours, to compare with; windows are masks.
        exact: with every key that a token sees, in blocks, in place of a selection. A model whose layers all
            have sliding windows is exported so in any case.

    Raises:
        InputError: no drop-in layers, layers of unequal heads, or a batch of one row.
    """
    tensors = named_tensors(batch)
    if next(iter(tensors.values())).shape[0] < 2:
        raise InputError(
            "The batch to export with must have two rows; a single row is exported as a constant."
        )
    with attention_mode(model, "sparse"), without_cache(model):
        # Layers are made at the first pass, which must not be the exporter's.
        run_model(model, batch)
    layers = dropin_layers(model)
    mode: Mode = "dense" if dense else "sparse" if layers and not exact else "exact"
    with attention_mode(model, mode), without_cache(model):
        if not layers and not window_layers(model):
            raise InputError(
                "`model` must have drop-in layers; it has none. Call `edgesparse.sparsify` first."
            )
        if len({layer.heads for layer in layers}) > 1 and mode == "sparse":
            raise InputError("All attention layers must have one number of heads to share the input `top_p`.")
        for layer in layers:
            layer.is_counting = False
        return _export(model, tensors, layers, is_sparse=mode == "sparse")


def _export(
    model: nn.Module, tensors: dict[str, Tensor], layers: list[DropinAttention], *, is_sparse: bool
) -> ir.Model:
    knobs = {} if not is_sparse else {
        "top_p": torch.stack([layer.top_p for layer in layers]),
        "max_blocks": layers[0].max_blocks.clone(),
    }  # fmt: skip
    with operators_in_place(model, fuse_masked=True):
        onnx_model = trace(
            _Program(model, list(tensors)),
            (tuple(tensors.values()), *knobs.values()),
            [*tensors, *knobs],
            [
                "scores",
                *further_outputs(model),
                *([] if not is_sparse else [f"selection.{i}" for i in range(len(layers))]),
            ],
            (tuple(_free_axes(x) for x in tensors.values()), *({} for _ in knobs)),
        )
    attach_bodies(onnx_model)
    add_sampled_body(onnx_model, layers)
    if knobs:
        give_defaults(onnx_model, knobs)
    _name_axes(onnx_model, tensors)
    return onnx_model


def has_free_tokens(x: Tensor) -> bool:
    """Ids and masks [B, N] have a free number of tokens; features and pictures are of one size."""
    return x.ndim == 2


def _free_axes(x: Tensor) -> dict[int, object]:
    free: dict[int, object] = {0: torch.export.Dim.DYNAMIC}
    if has_free_tokens(x):
        free[1] = torch.export.Dim.DYNAMIC
    return free


def _name_axes(onnx_model: ir.Model, tensors: dict[str, Tensor]) -> None:
    for value in onnx_model.graph.inputs:
        if value.name in tensors:
            assert value.shape is not None
            axes: list[int | str] = ["batch", *tensors[value.name].shape[1:]]
            if has_free_tokens(tensors[value.name]):
                axes[1] = "tokens"
            value.shape = ir.Shape(axes)


@contextmanager
def without_cache(model: nn.Module) -> Iterator[None]:
    """Decoders return no cache while they are exported."""
    configs: dict[int, Any] = {id(m.config): m.config for m in model.modules() if hasattr(m, "config")}
    before = [(c, c.use_cache) for c in configs.values() if getattr(c, "use_cache", None) is not None]
    for config, _ in before:
        config.use_cache = False
    try:
        yield
    finally:
        for config, value in before:
            config.use_cache = value
