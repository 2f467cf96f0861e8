"""Texts in, embeddings out: `Session.embed`.

Texts share a run only where they fill the same number of attention blocks: the cap on blocks grows with the
padded length, so a text padded to many more blocks would be attended to more densely than alone. An int8
model scales its activations over a whole run, padding included, so there each text runs alone.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from weakref import WeakKeyDictionary

import numpy as np

from edgesparse_runtime.arrays import FloatArray
from edgesparse_runtime.data.tensors.batch import TensorBatch
from edgesparse_runtime.data.tensors.text import Tokenizer, Tokens
from edgesparse_runtime.errors import InputError

if TYPE_CHECKING:
    from edgesparse_runtime.bundle.read import Bundle


class Encoder(Protocol):
    """What is needed of a `Session`."""

    bundle: Bundle | None
    path: Path
    precision: str

    @property
    def score_count(self) -> int: ...

    def predict(self, data: TensorBatch, *, batch_size: int) -> FloatArray: ...


_TOKENIZERS: WeakKeyDictionary[Encoder, Tokenizer] = WeakKeyDictionary()


class TruncatedTextWarning(UserWarning):
    """A text was longer than the model takes, and its end was left out."""


def embed(session: Encoder, texts: Sequence[str], prompt: str | None, batch_size: int) -> FloatArray:
    """The embedding of each text [n, size]; see `Session.embed`."""
    tokens = tokenizer_of(session).encode(texts, prompt)
    if message := truncation(tokens, tokenizer_of(session).max_tokens):
        warnings.warn(message, TruncatedTextWarning, stacklevel=3)
    return embed_tokens(session, tokens, batch_size)


def tokenizer_of(session: Encoder) -> Tokenizer:
    """The session's tokenizer, read once.

    Raises:
        InputError: the model takes no text (see `Tokenizer`).
    """
    found = _TOKENIZERS.get(session)
    if found is None:
        if session.bundle is None:
            raise InputError(f"{session.path.name} must be in a bundle to take text; a bare model has none.")
        found = _TOKENIZERS[session] = Tokenizer(session.bundle)
    return found


def truncation(tokens: Sequence[Tokens], max_tokens: int) -> str:
    """What to say of texts that were truncated; "" = none was."""
    cut = [i for i, text in enumerate(tokens) if text.is_truncated]
    if not cut:
        return ""
    first = f" (the first: text {cut[0] + 1})" if len(tokens) > 1 else ""
    return f"{len(cut)} of {len(tokens)} texts truncated to {max_tokens} tokens{first}"


def embed_tokens(session: Encoder, tokens: Sequence[Tokens], batch_size: int = 16) -> FloatArray:
    """As `embed`, of texts that are tokens already."""
    if batch_size < 1:
        raise InputError(f"`batch_size` must be at least 1; got {batch_size}.")
    found: FloatArray = np.zeros((len(tokens), session.score_count), dtype=np.float32)
    tokenizer = tokenizer_of(session)
    for rows in _groups(session, tokens, batch_size):
        found[rows] = session.predict(tokenizer.batch([tokens[i] for i in rows]), batch_size=batch_size)
    return found


def _groups(session: Encoder, tokens: Sequence[Tokens], size: int) -> Iterator[list[int]]:
    """Rows that share a run, longest texts first: too little memory shows at once."""
    assert session.bundle is not None
    block = session.bundle.manifest.get("attention", {}).get("block_size", 0) or 1
    order = sorted(range(len(tokens)), key=lambda i: -len(tokens[i]))
    limit = 1 if session.precision == "int8" else size
    group: list[int] = []
    for i in order:
        if group and (
            len(group) == limit or -(-len(tokens[i]) // block) != -(-len(tokens[group[0]]) // block)
        ):
            yield group
            group = []
        group.append(i)
    if group:
        yield group
