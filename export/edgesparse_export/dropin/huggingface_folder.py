"""A Hugging Face model folder to a bundle: load, sparsify, calibrate, export."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from edgesparse.dropin.calibration import Calibration, calibrate
from edgesparse.dropin.checks import check_steps, check_targets
from edgesparse.dropin.config import DropinConfig
from edgesparse.dropin.outputs import Batch
from edgesparse.dropin.sparsify import sparsify
from edgesparse_export.dropin.bundle import dense_model, export_model
from edgesparse_export.dropin.decoder_bundle import export_decoder
from edgesparse_export.dropin.decoder_program import IDS, writes_text
from edgesparse_export.dropin.program import named_tensors
from edgesparse_export.dropin.sentence_encoder import SentenceEncoder, lowercase_first, text_parts
from edgesparse_export.dropin.sentence_folder import is_sentence_folder, read_sentence_folder
from edgesparse_export.dropin.texts import (
    TEXT_SUFFIXES,
    cut_prompts,
    load_tokenizer,
    most_tokens,
    read_documents,
    tokenize,
)
from edgesparse_export.parity import Parity
from edgesparse_runtime.bundle.npz import read_arrays
from edgesparse_runtime.bundle.read import Bundle
from edgesparse_runtime.bundle.write import check_target
from edgesparse_runtime.errors import InputError

# Tokens of a text to calibrate on, where the folder and the user name no number; those of a prompt.
TOKENS, PROMPT_TOKENS = 512, 2048
# Texts on which the stored tokenizer is compared with that of transformers, besides the first documents.
_SAMPLES = ("A short text.", "Ünïcode, 数字 123 —  two  spaces\tand a tab", "")
_COMPARED = 64
# How a prompt is read: what it copies stands in single tokens, which summaries blur
# (`python -m benchmarks.dropin.language`).
PROMPT_RULE: dict[str, Any] = {"summaries": False, "sampled_queries": 4}


@dataclass(frozen=True)
class FolderExport:
    """What `export_folder` made."""

    bundle: Bundle
    parity: Parity
    calibration: Calibration


def export_folder(
    folder: Path,
    data: Path,
    out: Path,
    *,
    density: float | None = None,
    fidelity: float | None = None,
    block_size: int = 32,
    tokens: int | None = None,
    batch_size: int = 4,
    distill_steps: int = 0,
    with_dense: bool = False,
    say: Callable[[str], None] = lambda text: None,
) -> FolderExport:
    """Load a model of transformers, make it sparse on unlabeled data and write its bundle.

    Of an encoder-decoder the encoder is used. A sentence-transformers folder becomes an embedding model that
    takes text. Nothing is downloaded: the folder must hold the model.

    Args:
        folder: with config.json and weights as safetensors.
        data: text (one document per line, truncated to `tokens`), or an .npz of the model's own inputs.
        tokens: None = 512, or the most that a sentence-transformers folder names.
        with_dense: put the dense model into the bundle too, for `edgesparse compare --attention-a dense`.

    Raises:
        InputError: no such model or data, or data that the model does not take.
    """
    # Cheap checks come before the minutes of calibration.
    check_target(out)
    check_writable(out)
    _check_request(density, fidelity, distill_steps, tokens)
    DropinConfig(block_size=block_size)
    source = _read_source(folder, data, tokens=tokens, batch_size=batch_size)
    model, batches = source.model, source.batches
    say(f"{source.name}, {len(batches)} batches to calibrate on")
    sparsify(source.transformer, block_size=block_size, **({} if source.tokenizer is None else PROMPT_RULE))
    # Before calibration: distillation changes the weights.
    dense = _dense_form(source) if with_dense else None
    found = calibrate(
        model, batches, density=density, fidelity=fidelity, distill_steps=distill_steps, say=say
    )
    say("exporting")
    bundle, verdict = _export(source, folder, out, found, dense)
    return FolderExport(bundle, verdict, found)


def _check_request(
    density: float | None, fidelity: float | None, distill_steps: int, tokens: int | None
) -> None:
    check_targets(density, fidelity)
    check_steps("--distill", distill_steps)
    if tokens is not None and tokens < 2:
        raise InputError(f"`--tokens` must be at least 2; got {tokens}. Use {TOKENS}.")


@dataclass(frozen=True)
class _Source:
    """What a folder and data hold.

    Attributes:
        transformer: the model whose attention is exchanged.
        model: what is calibrated and exported: the same, or an embedding made of its states.
        batches: to calibrate on.
        text: what lets the bundle take text; None = it takes tokens.
        tokenizer: of a model that writes text; `model` is then the part that gives states.
        documents: some of those that it was calibrated on.
    """

    transformer: Any
    model: nn.Module
    batches: list[Batch]
    text: tuple[dict[str, bytes], dict[str, Any]] | None = None
    tokenizer: Any = None
    documents: Sequence[str] = ()

    @property
    def name(self) -> str:
        return type(self.transformer).__name__


def _export(
    source: _Source, folder: Path, out: Path, found: Calibration, dense: bytes | None
) -> tuple[Bundle, Parity]:
    name, last = f"{source.name} of {folder.name}", source.batches[-1]
    if source.tokenizer is None:
        return export_model(
            source.model, last, out, calibration=found, source=name, dense=dense, text=source.text
        )
    return export_decoder(
        source.transformer,
        source.tokenizer,
        named_tensors(last)[IDS],
        out,
        documents=source.documents,
        calibration=found,
        source=name,
    )


def _dense_form(source: _Source) -> bytes:
    if source.tokenizer is not None:
        raise InputError(
            "`--with-dense` is for models that do not write text; this is a language model. Leave it out."
        )
    return dense_model(source.model, source.batches[-1])


def _read_source(folder: Path, data: Path, *, tokens: int | None, batch_size: int) -> _Source:
    if not is_sentence_folder(folder):
        model = load_folder(folder)
        if data.suffix.lower() in TEXT_SUFFIXES and writes_text(model):
            return _read_decoder(folder, model, data, tokens=tokens, batch_size=batch_size)
        return _Source(model, model, read_batches(folder, model, data, tokens=tokens, batch_size=batch_size))
    found = read_sentence_folder(folder)
    model = load_folder(found.model, is_plain=True)
    tokenizer = load_tokenizer(found.model)
    if found.lowercase:
        lowercase_first(tokenizer)
    limit = most_tokens(model, tokenizer, found.max_tokens if tokens is None else tokens)
    kind = _check_data(data, batch_size)
    documents: list[str] = []
    if kind == ".npz":
        tensors = _read_npz(data)
    else:
        documents = read_documents(data)
        prompt = found.prompts.get(found.default_prompt or "", "")
        tensors = tokenize(tokenizer, [prompt + x for x in documents], limit)
    text = text_parts(found, tokenizer, limit, [*_SAMPLES, *documents[:_COMPARED]])
    encoder = SentenceEncoder(model, found.pooling, is_normalized=found.normalize).eval()
    return _Source(model, encoder, _cut(tensors, batch_size), text)


def _read_decoder(folder: Path, model: Any, data: Path, *, tokens: int | None, batch_size: int) -> _Source:
    """A causal language model, and its documents behind one another, cut into prompts of full length."""
    _check_data(data, batch_size)
    documents, tokenizer = read_documents(data), load_tokenizer(folder)
    limit = most_tokens(model, tokenizer, PROMPT_TOKENS if tokens is None else tokens)
    batches: list[Batch] = [{IDS: row[None]} for row in cut_prompts(tokenizer, documents, limit)]
    return _Source(model, model.base_model, batches, None, tokenizer, documents[:_COMPARED])


def load_folder(folder: Path, *, is_plain: bool = False) -> Any:
    """The model in a folder, in float32 and evaluation mode, without gradients.

    Args:
        is_plain: without a head, also where the configuration names one.

    Raises:
        InputError: there is no model, or not one that this transformers knows.
    """
    import transformers

    check_no_adapter(folder)
    if not (folder / "config.json").is_file():
        raise InputError(f"{folder} must be a Hugging Face model folder; it has no config.json.")
    # A folder that was saved sparse names our implementation, which this registers.
    import edgesparse.dropin.huggingface  # noqa: F401

    try:
        # A folder is data: code that it carries is not run, and there is no prompt whether to.
        config = transformers.AutoConfig.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
        kind = transformers.AutoModel if is_plain else _model_class(config)
        model, report = kind.from_pretrained(
            folder,
            config=config,
            local_files_only=True,
            use_safetensors=True,
            dtype=torch.float32,
            output_loading_info=True,
        )
    except Exception as error:  # a damaged folder raises many kinds
        line = " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(f"{folder} must hold a model as safetensors; {line}") from None
    # What is not there is drawn at random. A pooler is not part of the states that are exported.
    missing = sorted(name for name in report["missing_keys"] if "pooler" not in name)
    if missing:
        raise InputError(
            f"{folder} must hold all weights of {type(model).__name__}; {missing[0]} is missing."
        )
    if getattr(config, "is_encoder_decoder", False):
        model = model.get_encoder()
    return model.eval().requires_grad_(False)


def check_no_adapter(folder: Path) -> None:
    """Refuse a folder with an adapter of PEFT beside the model: loading it could leave the adapter out.

    Raises:
        InputError: it holds one.
    """
    if (folder / "adapter_config.json").is_file():
        raise InputError(
            f"{folder} must hold a whole model; it holds an adapter of PEFT. Merge it first: "
            "model.merge_and_unload().save_pretrained(FOLDER)."
        )


def _model_class(config: Any) -> Any:
    """The class that the configuration names, or the plain model of its kind."""
    import transformers

    names = config.architectures
    name = names[0] if isinstance(names, list) and names else None
    kind = getattr(transformers, name, None) if isinstance(name, str) else None
    is_model = isinstance(kind, type) and issubclass(kind, transformers.PreTrainedModel)
    return kind if is_model else transformers.AutoModel


def check_writable(out: Path) -> None:
    """Refuse a folder that cannot be written to, before the work and not after it.

    Raises:
        InputError: the nearest folder that exists takes no new folder.
    """
    place = next(x for x in out.absolute().parents if x.exists())
    try:
        with tempfile.TemporaryDirectory(prefix=".edgesparse-", dir=place):
            pass
    except OSError as error:
        raise InputError(f"{out} must be in a writable folder; {error.strerror}.") from None


def read_batches(
    folder: Path, model: nn.Module, data: Path, *, tokens: int | None, batch_size: int
) -> list[Batch]:
    """Batches of two rows or more from text or an .npz.

    Raises:
        InputError: no such file, too little in it, or text for a model without a tokenizer.
    """
    if _check_data(data, batch_size) == ".npz":
        return _cut(_read_npz(data), batch_size)
    documents = read_documents(data)
    tokenizer = load_tokenizer(folder)
    limit = most_tokens(model, tokenizer, TOKENS if tokens is None else tokens)
    return _cut(tokenize(tokenizer, documents, limit), batch_size)


def _check_data(data: Path, batch_size: int) -> str:
    """The kind of a data file, as its ending says."""
    if data.is_dir():
        raise InputError(f"{data} must be a text file or an .npz; it is a folder.")
    if not data.exists():
        raise InputError(f"{data}: no such file or folder.")
    if batch_size < 2:
        raise InputError(f"`--batch` must be at least 2; got {batch_size}.")
    suffix = data.suffix.lower()
    if suffix not in (".npz", *TEXT_SUFFIXES):
        raise InputError(f"{data} must be text ({', '.join(TEXT_SUFFIXES)}) or .npz; got {data.suffix}.")
    return suffix


def _cut(tensors: dict[str, torch.Tensor], batch_size: int) -> list[Batch]:
    count = len(next(iter(tensors.values())))
    starts = range(0, count - 1, batch_size)
    return [{name: x[start : start + batch_size] for name, x in tensors.items()} for start in starts]


def _read_npz(data: Path) -> dict[str, torch.Tensor]:
    arrays = read_arrays(data.read_bytes(), str(data), advice="Write it with numpy.savez.")
    for name, x in arrays.items():
        if x.dtype.kind not in "iufb":
            raise InputError(f"Arrays in {data} must be numbers; `{name}` is {x.dtype}.")
        if x.ndim < 1:
            raise InputError(f"Arrays in {data} must have a first axis of rows; `{name}` is a single number.")
    rows = {len(x) for x in arrays.values()}
    if len(rows) != 1 or min(rows) < 2:
        raise InputError(f"Arrays in {data} must share a first axis of at least two rows.")
    return {
        name: torch.from_numpy(x.astype(np.int64) if x.dtype.kind in "iu" else x.copy())
        for name, x in arrays.items()
    }
