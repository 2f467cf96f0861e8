"""Texts to calibrate on, and the tokenizer of a Hugging Face model folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from edgesparse_export.dropin.bundle import position_count
from edgesparse_runtime.errors import InputError

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "vocab.txt",
    "vocab.json",
    "spiece.model",
    "sentencepiece.bpe.model",
)
TEXT_SUFFIXES = (".txt", ".text", ".md")


def read_documents(data: Path) -> list[str]:
    """One document per line; empty lines are left out.

    Raises:
        InputError: not UTF-8, or fewer than two.
    """
    try:
        content = data.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{data} must be text in UTF-8; byte {error.start} is not. "
            f"Convert it: iconv -f latin1 -t utf-8 {data.name}"
        ) from None
    documents = [line for line in content.splitlines() if line.strip()]
    if len(documents) < 2:
        raise InputError(
            f"{data} must hold at least two lines, one document per line; it holds {len(documents)}."
        )
    return documents


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer of a folder, padding on the right: the router pools blocks from the first token on.

    Raises:
        InputError: there is none, or it is damaged.
    """
    import transformers

    # Without a file, transformers makes an empty tokenizer.
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        raise InputError(
            f"{folder} must hold a tokenizer to read text; it has none. Give an .npz of token ids."
        )
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    except Exception as error:  # a damaged tokenizer raises many kinds
        line = " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(f"{folder} must hold a tokenizer to read text; {line}") from None
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side = "right"
    return tokenizer


def most_tokens(model: nn.Module, tokenizer: Any, wanted: int | None) -> int:
    """No text is longer than the model has positions for; None = as many as that."""
    config: Any = getattr(model, "config", None)
    positions = position_count(model) or getattr(config, "max_position_embeddings", None)
    return min(x for x in (wanted, tokenizer.model_max_length, positions) if x is not None)


def tokenize(tokenizer: Any, documents: Sequence[str], tokens: int) -> dict[str, torch.Tensor]:
    """Ids and padding mask [documents, longest], truncated to `tokens`."""
    found = tokenizer(list(documents), truncation=True, max_length=tokens, padding=True, return_tensors="pt")
    return {name: found[name] for name in ("input_ids", "attention_mask")}


def cut_prompts(tokenizer: Any, documents: Sequence[str], tokens: int) -> torch.Tensor:
    """Documents behind one another, an end token after each, cut into prompts of `tokens` [prompts, tokens].

    Text for less than two gives two shorter ones.
    """
    end = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    found = tokenizer(list(documents))["input_ids"]
    ids = torch.tensor([x for document in found for x in (*document, *end)], dtype=torch.int64)
    size = min(tokens, len(ids) // 2)
    return ids[: len(ids) // size * size].view(-1, size)
