"""Hugging Face models: registered as the attention implementation "edgesparse" of transformers.

No subclass and no patch: transformers looks the name up in its table of attention functions and calls what it
finds with the attention module, query, key and value. The drop-in layer is made at the module's first
call and becomes its submodule `edgesparse`, so `state_dict`, `to` and `parameters` know it.

Encoders and causal decoders in prefill are sparse. What stays dense: cross attention, and steps of a decoder
whose query is shorter than its cache.
"""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.masking_utils import bidirectional_mask_function, causal_mask_function

from edgesparse.dropin.attention import DropinAttention
from edgesparse.dropin.rule import DropinRule
from edgesparse_runtime.errors import InputError

NAME = "edgesparse"
# Names of modules whose keys are another sequence's.
_CROSS = re.compile(r"cross|encoder_attn|encdec", re.IGNORECASE)
_UNSUPPORTED = ("softcap", "position_bias", "sliding_window", "s_aux")


def attach_huggingface(model: PreTrainedModel, rule: DropinRule) -> None:
    """Switch a model to the implementation "edgesparse" with this rule; layers of another rule are removed.

    Raises:
        InputError: the model's attention cannot be exchanged.
    """
    model.set_attn_implementation(NAME)
    if model.config._attn_implementation != NAME:
        raise InputError(
            f"{type(model).__name__} must look its attention up in transformers' "
            f"AttentionInterface; it does not. "
            "Use a newer transformers, or `edgesparse.dropin.attach_pytorch`."
        )
    for name, module in model.named_modules():
        if hasattr(module, "config"):
            # What `attention` finds at the module's first call.
            module.config.edgesparse = rule.to_dict()
        if isinstance(getattr(module, NAME, None), DropinAttention):
            delattr(module, NAME)
        if _CROSS.search(name.rsplit(".", 1)[-1]):
            module.edgesparse_is_cross = True


def attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """transformers' attention function: [B, H, N, D] in, [B, N, H, E] out, no attention weights.

    Attention dropout is not applied: it belongs to a training from scratch.

    Raises:
        InputError: the model asks for something that the operator does not do.
    """
    del dropout
    asked = next((name for name in _UNSUPPORTED if kwargs.get(name) is not None), None)
    if asked:
        raise InputError(f"Attention with `{asked}` must stay dense. Use attn_implementation='eager'.")
    causal = bool(getattr(module, "is_causal", False) if is_causal is None else is_causal)
    scale = query.shape[-1] ** -0.5 if scaling is None else float(scaling)
    if attention_mask is not None and attention_mask.ndim != 2:
        raise InputError(
            f"`attention_mask` must be a padding mask [batch, tokens]; got shape "
            f"{list(attention_mask.shape)}. "
            "Masks for each pair of tokens are not supported."
        )
    batch, heads, length, _ = query.shape
    if getattr(module, "edgesparse_is_cross", False) or key.shape[2] != length:
        mixed = _dense(query, key, value, attention_mask, scale=scale, is_causal=causal)
    else:
        layer = getattr(module, NAME, None)
        if layer is None:
            layer = _make_layer(module, query, key, scale=scale, is_causal=causal)
        mixed = layer(query, key, value, attention_mask)
    return mixed.view(batch, length, heads, value.shape[-1]), None


def _make_layer(
    module: nn.Module, query: Tensor, key: Tensor, *, scale: float, is_causal: bool
) -> DropinAttention:
    rule = DropinRule.from_dict(getattr(getattr(module, "config", None), NAME, {}))
    layer = DropinAttention(
        rule,
        heads=query.shape[1],
        groups=key.shape[1],
        head_size=query.shape[-1],
        scale=scale,
        is_causal=is_causal,
    )
    layer.requires_grad_(False)
    module.add_module(NAME, layer.to(query.device))
    return layer


def _dense(
    query: Tensor, key: Tensor, value: Tensor, mask_BM: Tensor | None, *, scale: float, is_causal: bool
) -> Tensor:
    """Cross attention and decoding steps: [B, N, H*E]."""
    queries, keys = query.shape[2], key.shape[2]
    allowed = None if mask_BM is None else mask_BM[:, None, None, :]
    if is_causal and queries > 1:
        # Queries are the last of the keys.
        past = torch.ones(queries, keys, dtype=torch.bool, device=key.device).tril(keys - queries)
        allowed = past if allowed is None else allowed & past
    mixed = scaled_dot_product_attention(
        query, key, value, attn_mask=allowed, scale=scale, enable_gqa=query.shape[1] != key.shape[1]
    )
    return mixed.transpose(1, 2).flatten(2)


def padding_mask(
    batch_size: int,
    q_length: int,
    kv_length: int,
    q_offset: int = 0,
    kv_offset: int = 0,
    mask_function: Any = causal_mask_function,
    attention_mask: Tensor | None = None,
    **kwargs: Any,
) -> Tensor | None:
    """transformers' mask function: the padding mask, bool [B, M], or None where nothing is padded.

    Raises:
        InputError: a mask other than padding and plain causal: sliding windows, packed sequences, static
        caches.
    """
    if mask_function not in (causal_mask_function, bidirectional_mask_function):
        raise InputError(
            "Attention masks must be padding or plain causal; this model or input (a sliding window, packed "
            "sequences) asks for another. Use attn_implementation='sdpa'."
        )
    if q_length > 1 and isinstance(q_offset, int) and kv_length > q_length + q_offset:
        raise InputError("The cache must be a dynamic one; a static cache has empty places. Leave it out.")
    if attention_mask is None:
        return None
    mask = attention_mask[:, -kv_length:].to(torch.bool)
    # In an export the mask is an input whose values are not known.
    return mask if torch.onnx.is_in_onnx_export() or not bool(mask.all()) else None


AttentionInterface.register(NAME, attention)
AttentionMaskInterface.register(NAME, padding_mask)
