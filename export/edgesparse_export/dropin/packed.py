"""A text encoder to one ONNX file that takes texts one after the other, of any lengths, without padding.

```
input_ids int64 [tokens]      the tokens of all texts
starts    int64 [texts + 1]   cumulative lengths: text i is tokens starts[i] to starts[i + 1] - 1
  -> scores            float32 [texts, size]    an embedding per text; without pooling, states [tokens, size]
  -> last_hidden_state float32 [tokens, size]   beside embeddings
```

A token sees its own text only and has the position that it has there, so each text gets what it gets alone.
All attention is exact (`edgesparse::WindowAttention`). It is for encoders whose positions are an input: BERT,
RoBERTa, XLM-R, ModernBERT, Qwen3 and their kin.

Shapes: `T` tokens, `S` texts, `D` size of a state.
"""

from __future__ import annotations

import inspect

import onnx_ir as ir
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from edgesparse.dropin.layers import attention_mode, dropin_layers, window_layers
from edgesparse.dropin.window import packed_texts
from edgesparse_export.dropin.program import without_cache
from edgesparse_export.dropin.sentence_encoder import STATES, SentenceEncoder
from edgesparse_export.functions.attach import attach_bodies
from edgesparse_export.passes.emit_operators import operators_in_place
from edgesparse_export.trace import trace
from edgesparse_runtime.errors import InputError

_POOLINGS = ("mean", "cls", "lasttoken")


class PackedEncoder(nn.Module):
    """The graph above, as a module."""

    def __init__(
        self, encoder: nn.Module, *, pooling: str | None = None, is_normalized: bool = False
    ) -> None:
        super().__init__()
        self.encoder, self.pooling, self.is_normalized = encoder, pooling, is_normalized
        self.first_position = first_position(encoder)

    def forward(self, ids_T: Tensor, starts_S: Tensor) -> tuple[Tensor, ...]:
        """Embeddings and states, or states alone; `starts` rise from 0 to the number of tokens."""
        token_T = torch.arange(ids_T.shape[0], device=ids_T.device)
        # Text of each token, and its first token.
        text_T = (starts_S[:, None] <= token_T).sum(0) - 1
        place_T = token_T - starts_S[text_T]
        with packed_texts(starts_S):
            states_TD = self.encoder(
                input_ids=ids_T[None],
                # Of ones: without a mask, transformers looks for packed texts itself.
                attention_mask=torch.ones_like(ids_T)[None],
                position_ids=(place_T + self.first_position)[None],
            ).last_hidden_state[0]
        if self.pooling is None:
            return (states_TD,)
        pooled_SD = pool_packed(states_TD, starts_S, text_T, self.pooling)
        return (normalize(pooled_SD, dim=-1) if self.is_normalized else pooled_SD), states_TD


def pool_packed(states_TD: Tensor, starts_S: Tensor, text_T: Tensor, pooling: str) -> Tensor:
    """One vector per text, as `pool` computes it of padded texts, zeros for a text without tokens: [S, D]."""
    if pooling in ("cls", "lasttoken"):
        # An empty text has no token of its own: whatever is read for it becomes zeros.
        place_S = starts_S[:-1] if pooling == "cls" else starts_S[1:] - 1
        token_SD = states_TD[place_S.clamp(min=0).minimum(torch.tensor(states_TD.shape[0] - 1))]
        return token_SD * (starts_S[1:] > starts_S[:-1])[:, None].to(token_SD.dtype)
    text_S = torch.arange(starts_S.shape[0] - 1, device=text_T.device)
    member_ST = (text_S[:, None] == text_T).to(states_TD.dtype)
    return (member_ST @ states_TD) / member_ST.sum(1, keepdim=True).clamp(min=1e-9)


def first_position(model: nn.Module) -> int:
    """The position of a text's first token: RoBERTa and its kin count from behind the padding id."""
    for name, module in model.named_modules():
        if isinstance(module, nn.Embedding) and name.rsplit(".", 1)[-1] == "position_embeddings":
            return 0 if module.padding_idx is None else module.padding_idx + 1
    return 0


def packed_to_onnx(model: nn.Module) -> ir.Model:
    """Export an encoder that `edgesparse.sparsify` was called on for packed texts; routers are not used.

    Args:
        model: a model of transformers, or a `SentenceEncoder` around one, whose pooling goes into the graph.

    Raises:
        InputError: no layers of ours, a model without positions as input, or pooling by the largest value.
    """
    pooling, is_normalized, encoder = None, False, model
    if isinstance(model, SentenceEncoder):
        pooling, is_normalized, encoder = model.pooling, model.is_normalized, model.model
        if pooling not in _POOLINGS:
            raise InputError(
                f"`pooling` of packed texts must be one of {', '.join(_POOLINGS)}; got {pooling}."
            )
    if "position_ids" not in inspect.signature(encoder.forward).parameters:
        raise InputError(
            f"{type(encoder).__name__} must take `position_ids` to have texts packed; it takes none. Export "
            "it with `dropin_to_onnx` and run texts of one length together."
        )
    program = PackedEncoder(encoder, pooling=pooling, is_normalized=is_normalized)
    inputs = (torch.arange(3, 23), torch.tensor([0, 9, 20]))
    # Layers are made at the first pass, which must not be the exporter's.
    with attention_mode(encoder, "sparse"), without_cache(encoder):
        encoder(input_ids=inputs[0][None], attention_mask=torch.ones(1, 20, dtype=torch.int64))
    if not dropin_layers(encoder) and not window_layers(encoder):
        raise InputError("`model` must have drop-in layers; it has none. Call `edgesparse.sparsify` first.")
    with attention_mode(encoder, "exact"), without_cache(encoder), operators_in_place(encoder):
        for layer in dropin_layers(encoder):
            layer.is_counting = False
        exported = trace(
            program,
            inputs,
            ["input_ids", "starts"],
            ["scores", *([] if pooling is None else [STATES])],
            ({0: torch.export.Dim.DYNAMIC}, {0: torch.export.Dim.DYNAMIC}),
        )
    attach_bodies(exported)
    for value, axis in zip(exported.graph.inputs, ("tokens", "texts_and_one"), strict=True):
        value.shape = ir.Shape([axis])
    return exported
