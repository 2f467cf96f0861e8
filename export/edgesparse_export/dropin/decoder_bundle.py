"""A sparsified causal language model to a bundle that writes text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import torch
from torch import Tensor, nn

from edgesparse.attention.record import attention_records
from edgesparse.dropin.calibration import Calibration
from edgesparse.dropin.layers import attention_mode
from edgesparse_export.dropin.bundle import OF_LARGEST, card, model_fields
from edgesparse_export.dropin.decoder_program import IDS, decoder_to_onnx
from edgesparse_export.dropin.sentence_encoder import TOKENIZER, check_tokens, stored_tokenizer
from edgesparse_export.parity import LEAST_AGREEMENT, Parity
from edgesparse_export.run_bundle import CARD, GOLDEN, MODEL, pack_golden
from edgesparse_runtime.bundle.read import Bundle
from edgesparse_runtime.bundle.write import check_target, write_bundle
from edgesparse_runtime.data.tensors.batch import PREFIX, TensorBatch
from edgesparse_runtime.data.tensors.generation import next_tokens
from edgesparse_runtime.errors import GateError, InputError
from edgesparse_runtime.model_check.metadata import stamp
from edgesparse_runtime.session import Session

TASK = "generation"
# Golden prompts have at most so many tokens, and so many are written behind each.
_PROMPT, _WRITTEN = 1024, 8
# Texts on which the stored tokenizer is compared with that of transformers, besides documents.
_SAMPLES = ("A short text.", "Ünïcode, 数字 123 —  two  spaces\tand a tab")


def export_decoder(
    model: nn.Module,
    tokenizer: Any,
    prompt_1N: Tensor,
    out: Path,
    *,
    documents: Sequence[str] = (),
    calibration: Calibration | None = None,
    source: str = "",
) -> tuple[Bundle, Parity]:
    """Export a sparsified causal language model with a parity verdict that must hold.

    Args:
        tokenizer: of transformers.
        prompt_1N: real tokens: engines are compared on them, and they go into the bundle.
        documents: texts on which the stored tokenizer must give what `tokenizer` gives.
        calibration: what `calibrate` returned, for the manifest and the card.
        source: where the model comes from, for the card.

    Raises:
        InputError: the name of the bundle or the tokenizer does not fit.
        GateError: the file's scores or the tokens that it writes differ from the model's; nothing is written.
    """
    check_target(out)
    stored = stored_tokenizer(tokenizer)
    positions = int(model.config.max_position_embeddings)  # type: ignore[union-attr, arg-type]
    check_tokens(stored, tokenizer, positions, [*_SAMPLES, *documents])
    prompt = _golden_prompt(prompt_1N, positions)
    content: bytes = ir.to_proto(decoder_to_onnx(model)).SerializeToString()
    session = Session(MODEL, content=content)
    verdict = check_decoder(model, session, prompt)
    if not verdict.holds:
        raise GateError(
            f"The exported model must write the model's tokens; {verdict.decisions_flipped} of "
            f"{verdict.windows * _WRITTEN} differ, scores by {verdict.largest_difference:.2e}, block choices "
            f"are equal to {verdict.selection_overlap or 1:.2%}. Nothing was written."
        )
    golden = TensorBatch({IDS: prompt.numpy()})
    arrays: dict[str, npt.NDArray[Any]] = {
        PREFIX + IDS: prompt.numpy(),
        "scores_float32": session.predict(golden),
    }
    for i, selection in enumerate(session.selections(golden)):
        arrays[f"selection_float32.{i}"] = selection
    arrays["generated_float32"] = written_by(session, prompt)
    fields = model_fields(model, {IDS: prompt}, out, verdict, calibration, source)
    fields |= {
        "task": TASK,
        "generation": {"tokenizer": TOKENIZER, "positions": positions, "stop_ids": stop_tokens(model)},
    }
    fields["input"]["positions"] = positions
    content = stamp(content, fields)
    files = {
        MODEL: content,
        GOLDEN: pack_golden(**arrays),
        CARD: card(fields).encode(),
        TOKENIZER: stored.to_str().encode(),
    }
    return write_bundle(out, files, fields), verdict


def _golden_prompt(prompt_1N: Tensor, positions: int) -> Tensor:
    """As much of the prompt as leaves positions for what is written behind it."""
    if positions <= _WRITTEN:
        raise InputError(f"The model must have more than {_WRITTEN} positions; it has {positions}.")
    return prompt_1N[:, : min(_PROMPT, positions - _WRITTEN)]


def check_decoder(model: nn.Module, session: Session, prompt_1N: Tensor) -> Parity:
    """The verdict over the prompt and two thirds of it: the next token's scores, and the tokens written.

    Scores of a prompt whose block choices are all the same must agree to `OF_LARGEST` of the largest; of all
    choices one in a thousand may differ. The tokens must be the model's.
    """
    largest, equal, total, flipped, within = 0.0, 0, 0, 0, True
    prompts = [prompt_1N, prompt_1N[:, : max(1, prompt_1N.shape[1] * 2 // 3)]]
    for prompt in prompts:
        written, expected, chosen = model_writes(model, prompt, _WRITTEN)
        arrays = TensorBatch({IDS: prompt.numpy()})
        actual, selections = session.predict(arrays)[0], session.selections(arrays)
        agree = [a == b for a, b in zip(chosen, selections, strict=True)]
        equal, total = equal + sum(int(x.sum()) for x in agree), total + sum(x.size for x in agree)
        difference = float(np.abs(actual - expected).max())
        if all(x.all() for x in agree):
            within &= difference <= OF_LARGEST * float(np.abs(expected).max()) + 1e-5
            largest = max(largest, difference)
        flipped += int((written_by(session, prompt) != written).sum())
    agreement = equal / total
    return Parity(len(prompts), largest, within and agreement >= LEAST_AGREEMENT, flipped, agreement)


def model_writes(
    model: nn.Module, prompt_1N: Tensor, count: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32], list[npt.NDArray[np.bool_]]]:
    """What the model in torch writes greedily after a prompt that it reads sparsely.

    Returns:
        The tokens, the scores of the first one, and each layer's selection.
    """
    found: list[int] = []
    with attention_mode(model, "sparse"):
        with attention_records(model) as records:
            result: Any = model(prompt_1N, use_cache=True, logits_to_keep=1)
        selections = [r.selection.numpy() for r in records.values() if r.selection is not None]
        first = result.logits[0, -1].numpy()
        for _ in range(count):
            found.append(int(result.logits[0, -1].argmax()))
            given = torch.tensor([found[-1:]])
            result = model(given, past_key_values=result.past_key_values, use_cache=True)
    return np.array(found), first, selections


def written_by(session: Session, prompt_1N: Tensor) -> npt.NDArray[np.int64]:
    """The same tokens of the exported model; a stop token does not end them."""
    return np.array(list(next_tokens(session, prompt_1N[0].tolist(), _WRITTEN)), dtype=np.int64)


def stop_tokens(model: Any) -> list[int]:
    """Tokens that end an answer, as the model's own settings have them."""
    for settings in (getattr(model, "generation_config", None), model.config):
        found = getattr(settings, "eos_token_id", None)
        if found is not None:
            return sorted({found} if isinstance(found, int) else set(found))
    return []
