"""Hugging Face models: registered as the attention implementation "edgesparse" of transformers.

No subclass and no patch: transformers looks the name up in its table of attention functions and calls what it
finds with the attention module, query, key and value. The drop-in layer is made at the module's first
call and becomes its submodule `edgesparse`, so `state_dict`, `to` and `parameters` know it.

Encoders and causal decoders in prefill are sparse; layers with a sliding window compute just that. What stays
dense: cross attention, and steps of a decoder whose query is shorter than its cache.
"""

from __future__ import annotations

import contextlib
import copy
import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.masking_utils import bidirectional_mask_function, causal_mask_function, sdpa_mask

from edgesparse.attention.attributes import WindowAttributes
from edgesparse.dropin.attention import DropinAttention
from edgesparse.dropin.config import DropinConfig
from edgesparse.dropin.layers import require_float32
from edgesparse.dropin.mask_windows import is_marked, mark, plain_window, window_of
from edgesparse.dropin.window import WindowedAttention
from edgesparse_runtime.errors import InputError

NAME = "edgesparse"
# Submodule of a layer with a sliding window.
_WINDOW = "edgesparse_window"
# Names of modules whose keys are another sequence's.
_CROSS = re.compile(r"cross|encoder_attn|encdec", re.IGNORECASE)
# What is written into a configuration beside the rule's own name.
_MARKS = (NAME, "attn_implementation")
# What to use instead of a family that is refused (docs/guides/dropin.md has the table).
FAMILIES = "BERT, RoBERTa, XLM-R, ModernBERT"
_NO_WEIGHTS = (
    "`output_attentions` must be left out; sparse attention has no weight for each pair of tokens. "
    "Load the dense model with attn_implementation='eager' to see them."
)
_UNSUPPORTED = ("softcap", "position_bias", "s_aux")


def attach_huggingface(model: PreTrainedModel, rule: DropinConfig) -> None:
    """Switch a model to the implementation "edgesparse" with this rule; layers it has are removed.

    The configuration records it, and `save_pretrained` writes that: a model read from such a folder refuses
    to run until `load_layers` has given it its layers back.

    Raises:
        InputError: the model's attention cannot be exchanged, or it is not in float32. Nothing was changed.
    """
    require_float32(model)
    undo = remember_huggingface(model)
    shared = model.config
    _give_own_configuration(model)
    # Its refusal is raised below.
    with contextlib.suppress(ValueError):
        model.set_attn_implementation(NAME)
    if model.config._attn_implementation != NAME:
        undo()
        raise InputError(_without_interface(model))
    model.config.attn_implementation = NAME
    # A model around this one is saved with the other configuration, and must not be silently dense either.
    shared.attn_implementation, shared.edgesparse = NAME, rule.to_dict()
    for name, module in model.named_modules():
        if hasattr(module, "config"):
            # What `attention` finds at the module's first call.
            module.config.edgesparse = rule.to_dict()
            module.edgesparse_makes_layers = True
        if isinstance(getattr(module, NAME, None), DropinAttention):
            delattr(module, NAME)
        module._modules.pop(_WINDOW, None)
        if _CROSS.search(name.rsplit(".", 1)[-1]):
            module.edgesparse_is_cross = True
        if isinstance(module, PreTrainedModel) and not _refuses_weights(module):
            module.register_forward_pre_hook(refuse_weights, with_kwargs=True)


def refuse_weights(module: PreTrainedModel, args: Any, kwargs: Mapping[str, Any]) -> None:
    """Before a forward pass: some families never tell the attention function, and return no weights silently.

    Raises:
        InputError: weights of attention are asked for, by argument or by the configuration.
    """
    wanted = kwargs.get("output_attentions")
    if wanted is None:
        wanted = getattr(module.config, "output_attentions", False)
    if wanted and module.config._attn_implementation == NAME:
        raise InputError(_NO_WEIGHTS)


def _refuses_weights(module: nn.Module) -> bool:
    return any(hook is refuse_weights for hook in module._forward_pre_hooks.values())


def _without_interface(model: PreTrainedModel) -> str:
    """Why a model's attention cannot be exchanged this way, and what works instead."""
    name = type(model).__name__
    if getattr(model, "_supports_sdpa", False):
        return (
            f"{name} must look its attention up in transformers' AttentionInterface; it does not. It calls "
            "PyTorch's attention, so this works: `model.set_attn_implementation('sdpa')`, "
            "`edgesparse.dropin.attach_pytorch(model)`, then "
            "`edgesparse.dropin.calibrate(model, batches, density=0.25)`."
        )
    return (
        f"{name} must look its attention up in transformers' AttentionInterface; it computes its own, which "
        f"cannot be exchanged. Use a model of another family: {FAMILIES}."
    )


def _give_own_configuration(model: PreTrainedModel) -> None:
    """A copy of its configuration, parts included: an encoder often shares its object with a decoder.

    The decoder of a model whose encoder alone is made sparse stays as it was.
    """
    copies: dict[int, Any] = {}
    model.config = copy.deepcopy(model.config, copies)
    for module in model.modules():
        if hasattr(module, "config") and id(module.config) in copies:
            module.config = copies[id(module.config)]


def restore_huggingface(
    model: PreTrainedModel, rule: DropinConfig, states: Mapping[str, Mapping[str, Tensor]]
) -> None:
    """`attach_huggingface` with layers of these states, by the name of their attention module.

    A module without one refuses to run from then on.

    Raises:
        InputError: a name that the model does not have, or that several modules could bear.
    """
    layers = {find_module(model, name): DropinAttention.from_state(rule, x) for name, x in states.items()}
    attach_huggingface(model, rule)
    for module in model.modules():
        if hasattr(module, "edgesparse_makes_layers"):
            module.edgesparse_makes_layers = False
    for module, layer in layers.items():
        module.add_module(NAME, layer)


def find_module(model: nn.Module, name: str) -> nn.Module:
    """The module of this name, in a model that may be saved or loaded with a head around it or without.

    Raises:
        InputError: none, or several.
    """
    modules: dict[str, nn.Module] = dict(model.named_modules())
    if name in modules:
        return modules[name]
    found = [m for n, m in modules.items() if n and (n.endswith(f".{name}") or name.endswith(f".{n}"))]
    # Attention modules have a configuration; other modules may end in the same name.
    found = [m for m in found if hasattr(m, "config")]
    if len(found) != 1:
        what = "several that could be it" if found else "none"
        raise InputError(
            f"`model` must have a module {name}, which the sparse layers were saved for; it has {what}."
        )
    return found[0]


def remember_huggingface(model: PreTrainedModel) -> Callable[[], None]:
    """A function that gives the model the attention back that it has now."""
    configs = {id(m.config): m.config for m in model.modules() if hasattr(m, "config")}
    kept = [
        (config, getattr(config, "_attn_implementation", None), {n: getattr(config, n, None) for n in _MARKS})
        for config in configs.values()
    ]
    flags = ("edgesparse_makes_layers", "edgesparse_is_cross")
    modules = [
        (m, m._modules.get(NAME), {n: m.__dict__[n] for n in (*flags, "config") if n in m.__dict__})
        for m in model.modules()
    ]

    hooks = {id(m) for m in model.modules() if _refuses_weights(m)}

    def undo() -> None:
        for config, implementation, marks in kept:
            config._attn_implementation_internal = implementation
            for name, value in marks.items():
                if value is None:
                    vars(config).pop(name, None)
                else:
                    setattr(config, name, value)
        for module, layer, own in modules:
            module._modules.pop(NAME, None)
            module._modules.pop(_WINDOW, None)
            if layer is not None:
                module.add_module(NAME, layer)
            for name in flags:
                module.__dict__.pop(name, None)
            module.__dict__.update(own)
            if id(module) not in hooks:
                found = module._forward_pre_hooks
                for key in [key for key, hook in found.items() if hook is refuse_weights]:
                    del found[key]
                    module._forward_pre_hooks_with_kwargs.pop(key, None)

    return undo


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
        InputError: the model needs something that the operator does not do.
    """
    del dropout
    unsupported = next((name for name in _UNSUPPORTED if kwargs.get(name) is not None), None)
    if unsupported:
        raise InputError(
            f"Attention with `{unsupported}` must stay dense: the operator has no such term. Use a model of "
            f"another family: {FAMILIES}; or attn_implementation='eager'."
        )
    if kwargs.get("output_attentions"):
        raise InputError(_NO_WEIGHTS)
    window = window_of(attention_mask)
    is_local = kwargs.get("sliding_window") is not None
    causal = bool(getattr(module, "is_causal", False) if is_causal is None else is_causal)
    scale = query.shape[-1] ** -0.5 if scaling is None else float(scaling)
    if attention_mask is not None and attention_mask.ndim != 2 and not is_local:
        raise InputError(
            f"`attention_mask` must be a padding mask [batch, tokens]; got shape "
            f"{list(attention_mask.shape)}. "
            "Masks for single pairs of tokens are not supported."
        )
    if is_local and attention_mask is not None and attention_mask.ndim == 2 and not is_marked(attention_mask):
        raise InputError(
            f"{type(module).__name__} must hand on the mask of its sliding window as it got it; it changes "
            f"it. Use a model of another family: {FAMILIES}."
        )
    batch, heads, length, _ = query.shape
    if window is not None and key.shape[2] == length:
        local = WindowAttributes(heads, key.shape[1], scale, *window)
        mixed = _window_layer(module)(query, key, value, attention_mask, attributes=local)
    elif is_local or getattr(module, "edgesparse_is_cross", False) or key.shape[2] != length:
        mixed = _dense(query, key, value, attention_mask, scale=scale, is_causal=causal)
    else:
        layer = getattr(module, NAME, None)
        if layer is None:
            layer = _make_layer(module, query, key, scale=scale, is_causal=causal)
        if not layer.fits(query, key, scale=scale, is_causal=causal):
            raise InputError(
                f"The sparse layer of {type(module).__name__} must be of this model; heads, scale or "
                "causality differ. Call `edgesparse.sparsify` anew."
            )
        mixed, _ = layer(query, key, value, attention_mask)
    return mixed.view(batch, length, heads, value.shape[-1]), None


def _window_layer(module: nn.Module) -> WindowedAttention:
    """The module's own, made at its first call; it has no state."""
    if _WINDOW not in module._modules:
        module.add_module(_WINDOW, WindowedAttention())
    layer = module._modules[_WINDOW]
    assert isinstance(layer, WindowedAttention)
    return layer


def _make_layer(
    module: nn.Module, query: Tensor, key: Tensor, *, scale: float, is_causal: bool
) -> DropinAttention:
    """The layer of a module at its first call.

    Raises:
        InputError: the model was loaded, not sparsified, so its layers are missing.
    """
    if not getattr(module, "edgesparse_makes_layers", False):
        raise InputError(
            f"{type(module).__name__} must have its sparse layer; it has none. Call "
            "`edgesparse.dropin.load_layers(model, folder)` after loading a saved model, or "
            "`edgesparse.sparsify(model, batches, density=0.25)`."
        )
    rule = DropinConfig.from_dict(getattr(getattr(module, "config", None), NAME, {}))
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
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, *, scale: float, is_causal: bool
) -> Tensor:
    """Cross attention, decoding steps and windows under a mask of pairs: [B, N, H*E].

    Args:
        mask: bool, true = seen: padding [B, M], or pairs [B, 1, N, M], in which causality is contained.
    """
    queries, keys = query.shape[2], key.shape[2]
    has_pairs = mask is not None and mask.ndim == 4
    allowed = mask if mask is None or has_pairs else mask[:, None, None, :]
    if is_causal and queries > 1 and not has_pairs:
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

    That of a layer with a sliding window is always a tensor and says how wide the window is (`window_of`).
    Where it is no plain window, or queries are fewer than keys, it is one of pairs, bool [B, 1, N, M].

    Raises:
        InputError: another mask than padding, plain causal and a sliding window: packed sequences, static
        caches.
    """
    local_size = kwargs.get("local_size")
    if local_size is not None:
        window = plain_window(mask_function, local_size)
        if window is not None and q_length == kv_length:
            return _marked_mask(batch_size, kv_length, attention_mask, window, kwargs.get("device"))
        pairs: Tensor | None = sdpa_mask(
            batch_size, q_length, kv_length, q_offset, kv_offset, mask_function, attention_mask, **kwargs
        )
        return pairs
    if mask_function not in (causal_mask_function, bidirectional_mask_function):
        raise InputError(
            "Attention masks must be padding, plain causal or a sliding window; this input (packed "
            "sequences, a mask of pairs) or model (EmbeddingGemma) needs another. Give each sequence a row "
            f"of its own, with padding; or use a model of another family: {FAMILIES}."
        )
    if q_length > 1 and isinstance(q_offset, int) and kv_length > q_length + q_offset:
        raise InputError("The cache must be a dynamic one; a static cache has empty places. Leave it out.")
    if attention_mask is None:
        return None
    mask = mark(attention_mask[:, -kv_length:].to(torch.bool), None)
    # In an export the mask is an input whose values are not known.
    return mask if torch.onnx.is_in_onnx_export() or not bool(mask.all()) else None


def _marked_mask(
    batch: int, length: int, attention_mask: Tensor | None, window: tuple[int, int], device: Any
) -> Tensor:
    """The padding mask of a layer with this window: a tensor of its own, which bears the mark."""
    if attention_mask is None:
        return mark(torch.ones(batch, length, dtype=torch.bool, device=device), window)
    return mark(attention_mask[:, -length:].to(torch.bool), window)


AttentionInterface.register(NAME, attention)
AttentionMaskInterface.register(NAME, padding_mask)
