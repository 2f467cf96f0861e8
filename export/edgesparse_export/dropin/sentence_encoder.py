"""A text encoder with its pooling and normalization, as one module and as a bundle's files.

Shapes: `B` texts, `N` tokens, `D` size of a state.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from edgesparse_export.dropin.sentence_folder import SentenceFolder
from edgesparse_runtime.errors import InputError

TOKENIZER, PROMPTS = "tokenizer.json", "prompts.json"
# Outputs besides the embedding; sentence-transformers' ONNX backend reads this name and pools by itself.
STATES = "last_hidden_state"


class SentenceEncoder(nn.Module):
    """Ids and padding mask to `sentence_embedding` [B, D], and the states that it was pooled from."""

    further_outputs = (STATES,)

    def __init__(self, model: nn.Module, pooling: str, *, is_normalized: bool) -> None:
        super().__init__()
        self.model, self.pooling, self.is_normalized = model, pooling, is_normalized

    def forward(self, **inputs: Tensor) -> dict[str, Tensor]:
        states_BND = self.model(**inputs).last_hidden_state
        pooled_BD = pool(states_BND, inputs["attention_mask"], self.pooling)
        if self.is_normalized:
            pooled_BD = normalize(pooled_BD, dim=-1)
        # The first is the main output.
        return {"sentence_embedding": pooled_BD, STATES: states_BND}


def pool(states_BND: Tensor, mask_BN: Tensor, pooling: str) -> Tensor:
    """One vector per text [B, D], as sentence-transformers' Pooling computes it."""
    if pooling in ("cls", "lasttoken"):
        # The first or last real token, on whichever side the padding is.
        places_N = torch.arange(mask_BN.shape[1], device=mask_BN.device)
        if pooling == "lasttoken":
            place_B = (mask_BN * places_N).amax(1)
        else:
            place_B = places_N[-1] - (mask_BN * places_N.flip(0)).amax(1)
        index = place_B[:, None, None].expand(-1, 1, states_BND.shape[-1])
        return states_BND.gather(1, index)[:, 0]
    mask_BN1 = mask_BN[..., None].to(states_BND.dtype)
    if pooling == "max":
        return states_BND.masked_fill(mask_BN1 == 0, -1e9).max(1).values
    assert pooling == "mean"
    return (states_BND * mask_BN1).sum(1) / mask_BN1.sum(1).clamp(min=1e-9)


def text_parts(
    folder: SentenceFolder, tokenizer: Any, max_tokens: int, documents: Sequence[str]
) -> tuple[dict[str, bytes], dict[str, Any]]:
    """Files of the bundle and its manifest's field `text`.

    Args:
        tokenizer: of transformers.
        documents: texts on which the stored tokenizer must give what `tokenizer` gives.

    Raises:
        InputError: the tokenizer is not one of the package `tokenizers`, or does not do so when it stands
            alone.
    """
    stored = stored_tokenizer(tokenizer)
    check_tokens(stored, tokenizer, max_tokens, documents)
    files = {TOKENIZER: stored.to_str().encode()}
    facts: dict[str, Any] = {
        "tokenizer": TOKENIZER,
        "max_tokens": max_tokens,
        "pad_id": tokenizer.pad_token_id or 0,
        "pooling": folder.pooling,
        "normalize": folder.normalize,
    }
    if folder.prompts:
        files[PROMPTS] = json.dumps(dict(folder.prompts), indent=2).encode()
        facts["prompts"] = PROMPTS
    if folder.default_prompt is not None:
        facts["default_prompt"] = folder.default_prompt
    return files, facts


def lowercase_first(tokenizer: Any) -> None:
    """Let a tokenizer of transformers lowercase texts before anything else."""
    from tokenizers import normalizers

    backend = tokenizer.backend_tokenizer
    parts = [normalizers.Lowercase(), *([] if backend.normalizer is None else [backend.normalizer])]
    backend.normalizer = normalizers.Sequence(parts)


def stored_tokenizer(tokenizer: Any) -> Any:
    """The tokenizer of transformers as one of the package `tokenizers`, without padding and truncation.

    Raises:
        InputError: it is none of that package.
    """
    from tokenizers import Tokenizer

    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise InputError(
            "The folder's tokenizer must be one of the package tokenizers; it is "
            f"{type(tokenizer).__name__}. Save it with a tokenizer.json."
        )
    stored = Tokenizer.from_str(backend.to_str())
    stored.no_padding()
    stored.no_truncation()
    return stored


def check_tokens(stored: Any, tokenizer: Any, max_tokens: int, documents: Sequence[str]) -> None:
    """Refuse a stored tokenizer that does not give the tokens of transformers' on these documents."""
    wanted = tokenizer(list(documents), truncation=True, max_length=max_tokens)["input_ids"]
    stored.enable_truncation(max_tokens)
    found = [x.ids for x in stored.encode_batch(list(documents))]
    stored.no_truncation()
    differs = next((i for i, (a, b) in enumerate(zip(found, wanted, strict=True)) if a != b), None)
    if differs is not None:
        raise InputError(
            f"The stored tokenizer must give transformers' tokens; document {differs + 1} differs. "
            "Export without modules.json and tokenize in the application."
        )
