"""A sparsified decoder to one ONNX file that reads a prompt and writes on from it.

```
input_ids             int64   [batch, tokens]        a prompt, or the next tokens
past_key.<layer>      float32 [batch, G, past, D]    the cache; left out = empty
past_value.<layer>    float32 [batch, G, past, D]
top_p, max_blocks                                    as in `dropin.program`
  -> scores             float32 [batch, vocabulary]    of the token that comes next
  -> present_key.<layer>, present_value.<layer>        the cache with these tokens behind it
  -> selection.<layer>  bool                           of a prompt; empty where there is a cache
```

With an empty cache attention is sparse, with one it is dense (`passes/cached_attention.py`): one file, one
copy of the weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import onnx_ir as ir
import torch
from torch import Tensor, nn
from torch.func import functional_call

from edgesparse.attention.attributes import Attributes
from edgesparse.attention.record import attention_records
from edgesparse.dropin.attention import DropinAttention
from edgesparse.dropin.layers import attention_mode, dropin_layers, layer_names
from edgesparse.dropin.outputs import main_output
from edgesparse.dropin.sampled_router import SampledRouter
from edgesparse_export.dropin.program import without_cache
from edgesparse_export.dropin.sampled_scores import add_sampled_body
from edgesparse_export.functions.cached_attention import cached_attention_body
from edgesparse_export.functions.domain import DOMAIN, VERSION
from edgesparse_export.functions.sparse_attention import function_body
from edgesparse_export.passes.cached_attention import PLACEHOLDER, branch_on_cache
from edgesparse_export.passes.emit_operators import SampledOperator
from edgesparse_export.program import give_defaults, knob_buffers
from edgesparse_export.trace import trace
from edgesparse_runtime.errors import InputError

IDS = "input_ids"
# Tokens of the prompt and of the cache that the trace runs on; both stay free.
_TOKENS, _PAST = 3, 2


def decoder_to_onnx(model: nn.Module) -> ir.Model:
    """Export a sparsified causal language model.

    Raises:
        InputError: some of its attention layers are not sparse, or they have unequal numbers of heads.
    """
    layers = dropin_layers(model)
    config: Any = model.config
    if len(layers) != config.num_hidden_layers or len({layer.heads for layer in layers}) > 1:
        raise InputError(
            f"{type(model).__name__} must have sparse attention with one number of heads in each of "
            f"its {config.num_hidden_layers} layers; {len(layers)} have it. Leave it dense."
        )
    least = _TOKENS * layers[0].rule.block_size
    ids = torch.zeros(2, least + 1, dtype=torch.int64)
    knobs = {
        "top_p": torch.stack([layer.top_p for layer in layers]),
        "max_blocks": layers[0].max_blocks.clone(),
    }
    cache = {
        f"past_{kind}.{i}": torch.zeros(2, layer.groups, _PAST, layer.head_size)
        for i, layer in enumerate(layers)
        for kind in ("key", "value")
    }
    presents = [name.replace("past", "present") for name in cache]
    selections = [f"selection.{i}" for i in range(len(layers))]
    free = torch.export.Dim.DYNAMIC
    with attention_mode(model, "sparse"), without_cache(model):
        for layer in layers:
            layer.is_counting = False
        onnx_model = trace(
            _DecoderProgram(model),
            (ids, tuple(cache.values()), *knobs.values()),
            [IDS, *cache, *knobs],
            ["scores", *presents, *selections],
            ({0: free, 1: free}, tuple({0: free, 2: free} for _ in cache), *({} for _ in knobs)),
        )
    branch_on_cache(onnx_model)
    add_sampled_body(onnx_model, layers)
    for body in (function_body(), cached_attention_body()):
        onnx_model.functions[body.identifier()] = body
    onnx_model.opset_imports[DOMAIN] = VERSION
    _name_axes(onnx_model, presents)
    # An empty cache is one of a single row, whatever the number of rows: a prompt does not read it.
    give_defaults(onnx_model, {**knobs, **{name: x[:1, :, :0] for name, x in cache.items()}})
    return onnx_model


class _DecoderProgram(nn.Module):
    """The graph above, as a module, with a placeholder in the place of each layer's attention."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, ids_BN: Tensor, cache: tuple[Tensor, ...], top_p_LH: Tensor, max_blocks: Tensor
    ) -> tuple[Tensor, ...]:
        buffers = knob_buffers(layer_names(self.model), top_p_LH, max_blocks)
        given = {IDS: ids_BN, "past_key_values": _NoCache(cache[0].shape[2]), "logits_to_keep": 1}
        with _placeholders(self.model, cache) as present, attention_records(self.model) as records:
            result = functional_call(self.model, buffers, (), given)
        selections = (record.selection for record in records.values())
        return (main_output(result)[:, -1], *present, *(x for x in selections if x is not None))


class _NoCache:
    """What transformers asks of a cache, for a pass whose layers are given the real one in another way."""

    is_compileable = False

    def __init__(self, past: int) -> None:
        self._past = past

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Positions begin behind the cache."""
        del layer_idx
        return self._past

    def get_query_offset(self, layer_idx: int = 0) -> int:
        """Masks are of the new tokens alone."""
        del layer_idx
        return 0

    def get_mask_sizes(self, query_length: int, layer_idx: int = 0) -> tuple[int, int]:
        """As many keys as queries."""
        del layer_idx
        return query_length, 0

    def update(self, key: Tensor, value: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Nothing is put before them."""
        return key, value


class _Placeholder(nn.Module):
    """Emits a placeholder in the place of a `SparseCore`, and keeps the cache that it gives back."""

    def __init__(self, past_key: Tensor, past_value: Tensor, present: list[Tensor]) -> None:
        super().__init__()
        self.past, self.present = (past_key, past_value), present

    def forward(
        self,
        query_BNC: Tensor,
        key_BNC: Tensor,
        value_BNC: Tensor,
        block_scores_BHQK: Tensor,
        top_p: Tensor,
        max_blocks: Tensor,
        key_mask_BN: Tensor,
        *,
        attributes: Attributes,
    ) -> tuple[Tensor, Tensor]:
        """Output [B, N, H*D] and selection."""
        batch, groups, past, size = self.past[0].shape
        shape = (batch, groups, past + query_BNC.shape[1], size)
        kind = query_BNC.dtype
        mixed, selection, key, value = torch.onnx.ops.symbolic_multi_out(
            f"{DOMAIN}::{PLACEHOLDER}",
            (
                *(query_BNC, key_BNC, value_BNC, block_scores_BHQK, top_p, max_blocks, key_mask_BN),
                *self.past,
            ),
            {**attributes.to_node()},
            dtypes=(kind, torch.bool, kind, kind),
            shapes=(query_BNC.shape, block_scores_BHQK.shape, shape, shape),
            version=VERSION,
        )
        self.present += [key, value]
        return mixed, selection


@contextmanager
def _placeholders(model: nn.Module, cache: tuple[Tensor, ...]) -> Iterator[list[Tensor]]:
    """Placeholders in the layers, in their order; gives the list that the caches go into."""
    layers: list[DropinAttention] = dropin_layers(model)
    present: list[Tensor] = []
    cores = [layer.sparse_core for layer in layers]
    routers = [layer.router for layer in layers]
    for i, layer in enumerate(layers):
        layer.sparse_core = _Placeholder(cache[2 * i], cache[2 * i + 1], present)  # type: ignore[assignment]
        if isinstance(layer.router, SampledRouter):
            layer.router = SampledOperator(layer.router)  # type: ignore[assignment]
    try:
        yield present
    finally:
        for layer, core, router in zip(layers, cores, routers, strict=True):
            layer.sparse_core, layer.router = core, router


def _name_axes(onnx_model: ir.Model, presents: list[str]) -> None:
    named: dict[str, list[Any]] = {IDS: ["batch", "tokens"], "scores": ["batch", None]}
    for value in (*onnx_model.graph.inputs, *onnx_model.graph.outputs):
        assert value.name is not None and value.shape is not None
        axes: list[Any] | None = named.get(value.name)
        if value.name.startswith("past_"):
            axes = ["rows", value.shape[1], "past", value.shape[3]]
        elif value.name in presents:
            axes = ["batch", value.shape[1], "cached", value.shape[3]]
        if axes is not None:
            value.shape = ir.Shape([x if y is None else y for x, y in zip(value.shape, axes, strict=True)])


def writes_text(model: nn.Module) -> bool:
    """Whether a model is a causal language model of which each layer attends to all tokens before."""
    config: Any = getattr(model, "config", None)
    can_generate = getattr(model, "can_generate", None)
    if can_generate is None or not can_generate() or getattr(config, "is_encoder_decoder", False):
        return False
    usual = "full_attention" if getattr(config, "sliding_window", None) is None else "sliding_attention"
    kinds = set(getattr(config, "layer_types", None) or [usual])
    return kinds == {"full_attention"} and getattr(config, "max_position_embeddings", None) is not None
