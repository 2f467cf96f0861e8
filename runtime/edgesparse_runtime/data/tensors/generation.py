"""Text in, text out: `Session.generate`.

The prompt is read in one run, with sparse attention, which leaves keys and values of every layer; each next
token is one run over those. The token with the highest score is taken (greedy).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt
import onnxruntime

from edgesparse_runtime.data.tensors.text import IDS, check_texts, open_tokenizer
from edgesparse_runtime.errors import InputError
from edgesparse_runtime.model_check.open import first_line

if TYPE_CHECKING:
    from edgesparse_runtime.bundle.read import Bundle

_PAST, _PRESENT = "past_", "present_"
# What a tokenizer writes for the first bytes of a character whose last ones have not come yet.
_UNFINISHED = "\N{REPLACEMENT CHARACTER}"


def can_generate(bundle: Bundle | None) -> bool:
    """Whether the model of a bundle writes text."""
    return bundle is not None and "generation" in bundle.manifest


class Writer(Protocol):
    """What is needed of a `Session`."""

    bundle: Bundle | None
    path: Path
    _model: Any


class Generator:
    """A model that writes text, and its tokenizer.

    Args:
        session: of a bundle that `edgesparse export --hf` made of a language model.

    Attributes:
        positions: most tokens of prompt and answer together.
        stop_ids: tokens that end an answer.

    Raises:
        InputError: the model writes no text.
        BundleError: the tokenizer does not load.
        MissingExtraError: the package `tokenizers` is not installed.
    """

    def __init__(self, session: Writer) -> None:
        bundle = session.bundle
        if bundle is None or not can_generate(bundle):
            raise InputError(
                f"{session.path.name} must be a language model with its tokenizer to write text; it is none. "
                "Export one: edgesparse export --hf FOLDER --calibrate pages.txt --density 0.25."
            )
        facts = bundle.manifest["generation"]
        self._session = session
        self._tokenizer: Any = open_tokenizer(bundle, facts["tokenizer"])
        self.positions, self.stop_ids = facts["positions"], frozenset(facts["stop_ids"])

    def encode(self, text: str) -> list[int]:
        """The tokens of a prompt.

        Raises:
            InputError: no text, no tokens, or as many as the model has positions.
        """
        if not isinstance(text, str):
            raise InputError(f"`text` must be a text; got {text!r:.60}.")
        check_texts([text])
        try:
            ids: list[int] = self._tokenizer.encode(text).ids
        except Exception as error:  # the tokenizer raises the plain class
            raise InputError(
                f"`text` must be of words that the tokenizer knows; {first_line(error)}."
            ) from None
        if not ids:
            raise InputError("`text` must have at least one token; it is empty.")
        if len(ids) >= self.positions:
            raise InputError(
                f"`text` must leave room for an answer in the model's {self.positions} positions; it has "
                f"{len(ids)} tokens. Shorten it."
            )
        return ids

    def tokens(self, ids: Sequence[int], max_tokens: int) -> Iterator[int]:
        """The tokens after a prompt, one by one, up to a stop token or the model's last position."""
        if type(max_tokens) is not int or max_tokens < 1:
            raise InputError(f"`max_tokens` must be a whole number of at least 1; got {max_tokens!r}.")
        for token in next_tokens(self._session, ids, min(max_tokens, self.positions - len(ids))):
            if token in self.stop_ids:
                return
            yield token

    def pieces(self, tokens: Iterator[int]) -> Iterator[str]:
        """The text of tokens, as soon as its characters are whole."""
        found: list[int] = []
        # Tokens from `start` on are decoded again: a token's text can depend on the one before.
        start = shown = 0
        for token in tokens:
            found.append(token)
            before = self._decode(found[start:shown])
            text = self._decode(found[start:])
            if len(text) > len(before) and not text.endswith(_UNFINISHED):
                yield text[len(before) :]
                start, shown = shown, len(found)
        rest = self._decode(found[start:])[len(self._decode(found[start:shown])) :]
        if rest:
            yield rest

    def _decode(self, ids: Sequence[int]) -> str:
        text: str = self._tokenizer.decode(list(ids), skip_special_tokens=True)
        return text


def next_tokens(session: Writer, ids: Sequence[int], count: int) -> Iterator[int]:
    """The tokens with the highest scores behind a prompt, one after the other; none of them ends it.

    Raises:
        InputError: the model returns no keys and values, or takes none.
    """
    model = session._model
    present = [name for name in model.outputs if name.startswith(_PRESENT)]
    if not present:
        raise InputError(
            f"{model.path.name} must return its keys and values to write text; it does not. Export it again: "
            "edgesparse export --hf FOLDER."
        )
    past = {name.replace(_PRESENT, _PAST) for name in present}
    taken = {x.name for x in (*model.inputs, *model.session.get_overridable_initializers())}
    if missing := sorted(past - taken):
        raise InputError(
            f"{model.path.name} must take the keys and values that it returns; it has no input "
            f"`{missing[0]}`. Export it again: edgesparse export --hf FOLDER."
        )
    given: npt.NDArray[np.int64] = np.array([ids], dtype=np.int64)
    cache: dict[str, Any] = {}
    for _ in range(count):
        scores, *found = _run(model, ["scores", *present], {IDS: given, **cache})
        cache = {name.replace(_PRESENT, _PAST): x for name, x in zip(present, found, strict=True)}
        last = scores.numpy()[0]
        token = int(last.argmax())
        if not np.isfinite(last[token]):
            raise InputError(f"{model.path.name} must give numbers as scores; it gives {last[token]}.")
        yield token
        given = np.array([[token]], dtype=np.int64)


def _run(model: Any, outputs: Sequence[str], feeds: dict[str, Any]) -> list[Any]:
    """The outputs as onnxruntime holds them, to be fed to the next run without a copy."""
    of_array = onnxruntime.OrtValue.ortvalue_from_numpy
    values = {n: of_array(x) if isinstance(x, np.ndarray) else x for n, x in (feeds | model.knobs).items()}
    try:
        return list(model.session.run_with_ort_values(list(outputs), values))
    except Exception as error:  # onnxruntime raises a class of its own for each status
        raise InputError(f"{model.path.name} does not run on this input; {first_line(error)}.") from None


def generate(session: Writer, text: str, max_tokens: int, show: Callable[[str], object] | None) -> str:
    """What the model writes after `text`; see `Session.generate`."""
    generator = Generator(session)
    ids = generator.encode(text)
    parts: list[str] = []
    for piece in generator.pieces(generator.tokens(ids, max_tokens)):
        parts.append(piece)
        if show is not None:
            show(piece)
    return "".join(parts)
