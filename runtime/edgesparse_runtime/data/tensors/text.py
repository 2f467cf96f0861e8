"""Texts to token ids, with the tokenizer that lies in the bundle.

The package `tokenizers` does it, an optional extra. Nothing is truncated without its being said: each text
knows whether it was.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgesparse_runtime.data.tensors.batch import TensorBatch
from edgesparse_runtime.errors import BundleError, InputError, MissingExtraError
from edgesparse_runtime.model_check.open import first_line

if TYPE_CHECKING:
    from edgesparse_runtime.bundle.read import Bundle

IDS, MASK = "input_ids", "attention_mask"


@dataclass(frozen=True)
class Tokens:
    """One text as the model takes it.

    Attributes:
        ids: int64 [tokens], special tokens included.
        is_truncated: the text was longer than the model takes; its end was left out.
    """

    ids: npt.NDArray[np.int64]
    is_truncated: bool

    def __len__(self) -> int:
        return len(self.ids)


class Tokenizer:
    """The tokenizer of a bundle.

    Args:
        bundle: one that `edgesparse export --hf` made of a sentence-transformers folder.

    Attributes:
        max_tokens: texts are truncated to so many tokens.
        prompts: texts that may be put before each text, by name.
        default_prompt: the name of the prompt that is used where none is named; None = none.

    Raises:
        InputError: the model takes no text.
        BundleError: the tokenizer does not load.
        MissingExtraError: the package `tokenizers` is not installed.
    """

    def __init__(self, bundle: Bundle) -> None:
        facts = bundle.manifest.get("text")
        if facts is None and "generation" in bundle.manifest:
            raise InputError(
                f"{bundle.path.name} must be a model that embeds texts; it is a language model, which writes "
                "them (`Session.generate`)."
            )
        if facts is None:
            raise InputError(
                f"{bundle.path.name} must take text to be given text; it holds no tokenizer. Export a "
                "sentence-transformers folder: edgesparse export --hf FOLDER."
            )
        self.max_tokens: int = facts["max_tokens"]
        self._pad_id: int = facts["pad_id"]
        self.prompts: Mapping[str, str] = {}
        if "prompts" in facts:
            self.prompts = _read_prompts(bundle, facts["prompts"])
        self.default_prompt = facts.get("default_prompt")
        self._tokenizer: Any = open_tokenizer(bundle, facts["tokenizer"])
        self._tokenizer.enable_truncation(self.max_tokens)

    def encode(self, texts: Sequence[str], prompt: str | None = None) -> list[Tokens]:
        """The tokens of each text.

        Args:
            prompt: the name of one of `prompts`; None = `default_prompt`.

        Raises:
            InputError: not a list of texts, a text without tokens, or no such prompt.
        """
        check_texts(texts)
        before = self._prompt(prompt)
        try:
            encoded = self._tokenizer.encode_batch([before + text for text in texts])
        except Exception as error:  # the tokenizer raises the plain class
            raise InputError(
                f"Texts must be of words that the tokenizer knows; {first_line(error)}."
            ) from None
        found = [Tokens(np.array(x.ids, dtype=np.int64), bool(x.overflowing)) for x in encoded]
        empty = next((i for i, tokens in enumerate(found) if not len(tokens)), None)
        if empty is not None:
            raise InputError(f"Each text must have at least one token; text {empty + 1} has none.")
        return found

    def batch(self, texts: Sequence[Tokens]) -> TensorBatch:
        """Ids and padding mask [n, longest], padded on the right."""
        shape = (len(texts), max(map(len, texts)))
        ids, mask = np.full(shape, self._pad_id, dtype=np.int64), np.zeros(shape, dtype=np.int64)
        for row, text in enumerate(texts):
            ids[row, : len(text)], mask[row, : len(text)] = text.ids, 1
        return TensorBatch({IDS: ids, MASK: mask})

    def _prompt(self, name: str | None) -> str:
        name = self.default_prompt if name is None else name
        if name is None:
            return ""
        if name not in self.prompts:
            known = ", ".join(self.prompts) or "none"
            raise InputError(f"`prompt` must be the name of a prompt of the model ({known}); got {name}.")
        return self.prompts[name]


def open_tokenizer(bundle: Bundle, name: str) -> Any:
    """A tokenizer file of a bundle; it neither pads nor truncates.

    Raises:
        BundleError: it does not load.
        MissingExtraError: the package `tokenizers` is not installed.
    """
    try:
        import tokenizers
    except ImportError:
        raise MissingExtraError("Text as input", "tokenizers", "text") from None
    try:
        found = tokenizers.Tokenizer.from_buffer(bundle.read(name))
    except BundleError:
        raise
    except Exception as error:  # the library raises plain exceptions
        line = " ".join(str(error).split())[:200]
        raise BundleError(f"{bundle.path}: {name} must be a tokenizer; {line}") from None
    found.no_padding()
    found.no_truncation()
    return found


def check_texts(texts: object) -> None:
    """Refuse what is no list of texts.

    Raises:
        InputError: one text in place of a list, or something among them that is no text or no valid Unicode.
    """
    if isinstance(texts, str | bytes) or not isinstance(texts, Sequence):
        kind = "one text" if isinstance(texts, str) else type(texts).__name__
        raise InputError(f"`texts` must be a list of texts; got {kind}. Use [text].")
    for i, text in enumerate(texts):
        if not isinstance(text, str):
            raise InputError(f"`texts` must hold texts; text {i + 1} is a {type(text).__name__}.")
        if not text.isascii():
            try:
                text.encode()
            except UnicodeEncodeError:
                raise InputError(f"Text {i + 1} must be valid Unicode; it holds half a character.") from None


def _read_prompts(bundle: Bundle, name: str) -> dict[str, str]:
    try:
        prompts = json.loads(bundle.read(name))
    except ValueError:
        prompts = None
    if not isinstance(prompts, dict) or not all(isinstance(x, str) for x in prompts.values()):
        raise BundleError(f"{bundle.path}: {name} must hold texts by name. Export the bundle again.")
    return prompts
