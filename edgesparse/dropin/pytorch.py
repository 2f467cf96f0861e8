"""PyTorch models: one adapter for everything that reaches `scaled_dot_product_attention`.

While a sparsified model's forward pass runs, PyTorch's own hook for functions (`TorchFunctionMode`) hands
every call of `scaled_dot_product_attention` and of `multi_head_attention_forward` (which
`nn.MultiheadAttention` and `nn.TransformerEncoderLayer` make) to the adapter. Calls are identified by their
order in the pass, so a model must make them in the same order each time; the layers are in
`model.edgesparse`, one per call.

Sparse are calls of self-attention whose mask is padding or plain causal. What stays dense: cross attention
(another number of keys than queries) and masks for single pairs of tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, multi_head_attention_forward, scaled_dot_product_attention
from torch.overrides import TorchFunctionMode

from edgesparse.attention.heads import split_heads
from edgesparse.dropin.attention import DropinAttention
from edgesparse.dropin.config import DropinConfig
from edgesparse.dropin.layers import require_float32
from edgesparse_runtime.errors import InputError

NAME = "edgesparse"


class PytorchLayers(nn.ModuleList):
    """The drop-in layers of a model in the order of its attention calls; `nn.Identity` for a dense one."""

    def __init__(self, rule: DropinConfig) -> None:
        super().__init__()
        self.rule = rule

    def forward(self, x: Any) -> Any:
        """Passes on what it gets: a model that is an `nn.Sequential` takes it for one of its steps."""
        return x

    def put(self, place: int, layer: DropinAttention) -> None:
        """Make `layer` the one of this call; calls before it that have none are dense."""
        while len(self) <= place:
            self.append(nn.Identity())
        self[place] = layer

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        # Layers are made at the first pass; a `state_dict` that comes earlier makes them.
        if not len(self):
            states: dict[int, dict[str, Tensor]] = {}
            for name in state_dict:
                place, _, key = name.removeprefix(prefix).partition(".")
                if name.startswith(prefix) and place.isdecimal():
                    states.setdefault(int(place), {})[key] = state_dict[name]
            for place, state in sorted(states.items()):
                self.put(place, DropinAttention.from_state(self.rule, state))
        super()._load_from_state_dict(state_dict, prefix, *args)


class _Passes:
    """The hooks that turn the adapter on for a forward pass; a class, so that models can be pickled."""

    def __init__(self) -> None:
        self._running: list[_Adapter] = []

    def enter(self, module: nn.Module, args: Any) -> None:
        self._running.append(_Adapter(getattr(module, NAME)))
        self._running[-1].__enter__()  # type: ignore[no-untyped-call]

    def leave(self, module: nn.Module, args: Any, output: Any) -> None:
        # Also called when the pass has failed.
        self._running.pop().__exit__(None, None, None)  # type: ignore[no-untyped-call]

    def __getstate__(self) -> dict[str, Any]:
        return {"_running": []}


def attach_pytorch(model: nn.Module, rule: DropinConfig | None = None) -> None:
    """Adapt a model in place; layers that it has are removed.

    Args:
        rule: None = the defaults of `DropinConfig`.

    Raises:
        InputError: the model is not in float32. Nothing was changed.
    """
    require_float32(model)
    rule = rule or DropinConfig()
    is_attached = isinstance(getattr(model, NAME, None), PytorchLayers)
    model.add_module(NAME, PytorchLayers(rule))
    if is_attached:
        return
    passes = _Passes()
    model.register_forward_pre_hook(passes.enter)
    model.register_forward_hook(passes.leave, always_call=True)


def restore_pytorch(model: nn.Module, rule: DropinConfig, states: Mapping[str, Mapping[str, Tensor]]) -> None:
    """`attach_pytorch` with layers of these states, by the place of their call.

    Raises:
        InputError: a name that is no place.
    """
    wrong = next((name for name in states if not name.isdecimal()), None)
    if wrong is not None or not states:
        raise InputError(f"A PyTorch model's sparse layers must be named by their calls; got {wrong}.")
    layers = {int(name): DropinAttention.from_state(rule, state) for name, state in states.items()}
    attach_pytorch(model, rule)
    for place, layer in sorted(layers.items()):
        getattr(model, NAME).put(place, layer)


def remember_pytorch(model: nn.Module) -> Callable[[], None]:
    """A function that gives the model the attention back that it has now."""
    layers = model._modules.get(NAME)
    hooks = (model._forward_pre_hooks, model._forward_hooks)
    before = [set(x) for x in hooks]

    def undo() -> None:
        model._modules.pop(NAME, None)
        if layers is not None:
            model.add_module(NAME, layers)
        for own, kept in zip(hooks, before, strict=True):
            for key in set(own) - kept:
                del own[key]
        for key in set(model._forward_hooks_always_called) - before[1]:
            del model._forward_hooks_always_called[key]

    return undo


class _Adapter(TorchFunctionMode):
    """One forward pass."""

    def __init__(self, layers: PytorchLayers) -> None:
        super().__init__()
        self._layers = layers
        self._call = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is scaled_dot_product_attention:
            return self._attention(*args, **kwargs)
        if func is multi_head_attention_forward:
            return self._multi_head(*args, **kwargs)
        return func(*args, **kwargs)

    def _attention(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        """In place of `scaled_dot_product_attention`: [B, H, N, D] in, [B, H, N, E] out."""
        mask, known = _padding(attn_mask, query, key)
        layer = self._next(query, key, known, is_causal, scale)
        if layer is None:
            return scaled_dot_product_attention(
                query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa
            )
        return split_heads(layer(query, key, value, mask)[0], query.shape[1])

    def _next(
        self, query: Tensor, key: Tensor, is_known_mask: bool, is_causal: bool, scale: float | None
    ) -> DropinAttention | None:
        """The layer of this call, made at the first pass; None = the call stays dense."""
        place = self._call
        self._call += 1
        if place == len(self._layers):
            fits = query.ndim == 4 and query.shape[2] == key.shape[2] and is_known_mask
            self._layers.append(
                DropinAttention(
                    self._layers.rule,
                    heads=query.shape[1],
                    groups=key.shape[1],
                    head_size=query.shape[-1],
                    scale=query.shape[-1] ** -0.5 if scale is None else scale,
                    is_causal=is_causal,
                ).requires_grad_(False)
                if fits
                else nn.Identity()
            )
        layer = self._layers[place]
        if not isinstance(layer, DropinAttention):
            return None
        scale = query.shape[-1] ** -0.5 if scale is None else scale
        same = layer.fits(query, key, scale=scale, is_causal=is_causal)
        if not same or query.shape[2] != key.shape[2] or not is_known_mask:
            raise InputError(
                f"Attention call {place} of the model must be the same in each pass; heads, scale, "
                "causality or the kind of mask have changed. Call `sparsify` again with such an input first."
            )
        return layer

    def _multi_head(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        embed_dim_to_check: int,
        num_heads: int,
        in_proj_weight: Tensor | None,
        in_proj_bias: Tensor | None,
        bias_k: Tensor | None,
        bias_v: Tensor | None,
        add_zero_attn: bool,
        dropout_p: float,
        out_proj_weight: Tensor,
        out_proj_bias: Tensor | None,
        training: bool = True,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        use_separate_proj_weight: bool = False,
        q_proj_weight: Tensor | None = None,
        k_proj_weight: Tensor | None = None,
        v_proj_weight: Tensor | None = None,
        static_k: Tensor | None = None,
        static_v: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, None]:
        """In place of `multi_head_attention_forward`: [N, B, C] in and out; attention weights are None."""
        extras = (bias_k, bias_v, static_k, static_v)
        if query.ndim != 3 or add_zero_attn or any(x is not None for x in extras):
            raise InputError(
                "nn.MultiheadAttention must take batches and have neither `add_bias_kv` nor "
                "`add_zero_attn` to be sparse."
            )
        if use_separate_proj_weight:
            weights = [q_proj_weight, k_proj_weight, v_proj_weight]
        else:
            assert in_proj_weight is not None
            weights = list(in_proj_weight.chunk(3))
        biases = [None] * 3 if in_proj_bias is None else list(in_proj_bias.chunk(3))
        packed = [
            linear(x.transpose(0, 1), weight, bias)  # type: ignore[arg-type]
            for x, weight, bias in zip((query, key, value), weights, biases, strict=True)
        ]
        mask = _to_allowed(key_padding_mask)
        mask = None if mask is None else mask[:, None, None, :]
        if is_causal:
            attn_mask = None  # it is a hint that `attn_mask` is the causal one
        elif attn_mask is not None:
            pairs = _to_allowed(attn_mask)
            assert pairs is not None
            mask = pairs if mask is None else mask & pairs
        split = [split_heads(x, num_heads) for x in packed]
        if is_causal and mask is not None:
            mixed = self._attention_causal_padded(split[0], split[1], split[2], mask)
        else:
            mixed = self._attention(split[0], split[1], split[2], mask, is_causal=is_causal)
        merged = mixed.transpose(1, 2).flatten(2).transpose(0, 1)
        return linear(merged, out_proj_weight, out_proj_bias), None

    def _attention_causal_padded(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
        """Causal and padded: PyTorch's own function takes one of the two only."""
        layer = self._next(query, key, True, True, None)
        if layer is None:
            raise InputError("Causal cross attention with padding is not supported.")
        return split_heads(layer(query, key, value, mask[:, 0, 0])[0], query.shape[1])


# No softmax in float32 gives a logit this low any weight: finfo.min and -1e9 hide too.
HIDING = -1e6


def _to_allowed(mask: Tensor | None) -> Tensor | None:
    """nn.MultiheadAttention's masks (true = hidden, or a number that hides) as true = seen.

    Raises:
        InputError: the mask shifts logits instead of hiding them; the shift would be lost.
    """
    if mask is None:
        return None
    if mask.dtype == torch.bool:
        return ~mask
    seen = mask > HIDING
    # An export traces a mask without values.
    if not torch.onnx.is_in_onnx_export() and bool((seen & (mask != 0)).any()):
        raise InputError(
            "An attention mask of numbers must hold 0 and minus infinity only; it shifts logits. "
            "Leave this module dense."
        )
    return seen


def _padding(mask: Tensor | None, query: Tensor, key: Tensor) -> tuple[Tensor | None, bool]:
    """The padding mask [B, M] that `attn_mask` is, and whether it is one (or there is none).

    It may be spelled out for every query, as transformers does: then its rows are equal.
    """
    if mask is None:
        return None, True
    if mask.ndim != 4 or mask.shape[1] != 1 or mask.dtype != torch.bool:
        return None, False
    # An export traces a mask without values; calls that are not sparse by then do not read this.
    if not torch.onnx.is_in_onnx_export() and not bool((mask == mask[:, :, :1]).all()):
        return None, False
    return mask[:, 0, 0].expand(query.shape[0], key.shape[2]), True
