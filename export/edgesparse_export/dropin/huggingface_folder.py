"""A Hugging Face model folder to a bundle: load, sparsify, calibrate, export."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgesparse.dropin.calibration import Calibration, calibrate
from edgesparse.dropin.checks import check_steps, check_targets
from edgesparse.dropin.config import DropinConfig
from edgesparse.dropin.outputs import Batch
from edgesparse.dropin.sparsify import sparsify
from edgesparse_export.dropin.bundle import dense_model, export_model
from edgesparse_export.parity import Parity
from edgesparse_runtime.bundle.npz import read_arrays
from edgesparse_runtime.bundle.read import Bundle
from edgesparse_runtime.bundle.write import check_target
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
    tokens: int = 512,
    batch_size: int = 4,
    distill_steps: int = 0,
    with_dense: bool = False,
    say: Callable[[str], None] = lambda text: None,
) -> FolderExport:
    """Load a model of transformers, make it sparse on unlabeled data and write its bundle.

    Of an encoder-decoder the encoder is used. Nothing is downloaded: the folder must hold the model.

    Args:
        folder: with config.json and weights as safetensors.
        data: text (one document per line, cut to `tokens`), or an .npz of the model's own inputs by name.
        with_dense: put the dense model into the bundle too, for `edgesparse compare --attention-a dense`.

    Raises:
        InputError: no such model or data, or data that the model does not take.
    """
    # Cheap checks come before the minutes of calibration.
    check_target(out)
    check_writable(out)
    check_targets(density, fidelity)
    check_steps("--distill", distill_steps)
    DropinConfig(block_size=block_size)
    if tokens < 2:
        raise InputError(f"`--tokens` must be at least 2; got {tokens}. Use 512.")
    model = load_folder(folder)
    batches = read_batches(folder, data, tokens=tokens, batch_size=batch_size)
    say(f"{type(model).__name__}, {len(batches)} batches to calibrate on")
    sparsify(model, block_size=block_size)
    # Before calibration: distillation changes the weights.
    dense = dense_model(model, batches[-1]) if with_dense else None
    found = calibrate(
        model, batches, density=density, fidelity=fidelity, distill_steps=distill_steps, say=say
    )
    say("exporting")
    bundle, verdict = export_model(
        model,
        batches[-1],
        out,
        calibration=found,
        source=f"{type(model).__name__} of {folder.name}",
        dense=dense,
    )
    return FolderExport(bundle, verdict, found)


def load_folder(folder: Path) -> Any:
    """The model in a folder, in float32 and evaluation mode, without gradients.

    Raises:
        InputError: there is no model, or not one that this transformers knows.
    """
    import transformers

    if not (folder / "config.json").is_file():
        raise InputError(f"{folder} must be a Hugging Face model folder; it has no config.json.")
    # A folder that was saved sparse names our implementation, which this registers.
    import edgesparse.dropin.huggingface  # noqa: F401

    try:
        # A folder is data: code that it carries is not run, and there is no prompt whether to.
        config = transformers.AutoConfig.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
        model, report = _model_class(config).from_pretrained(
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


def read_batches(folder: Path, data: Path, *, tokens: int, batch_size: int) -> list[Batch]:
    """Batches of two rows or more from text or an .npz.

    Raises:
        InputError: no such file, too little in it, or text for a model without a tokenizer.
    """
    if data.is_dir():
        raise InputError(f"{data} must be a text file or an .npz; it is a folder.")
    if not data.exists():
        raise InputError(f"{data}: no such file or folder.")
    if batch_size < 2:
        raise InputError(f"`--batch` must be at least 2; got {batch_size}.")
    suffix = data.suffix.lower()
    if suffix == ".npz":
        tensors = _read_npz(data)
    elif suffix in TEXT_SUFFIXES:
        tensors = _tokenize(folder, data, tokens)
    else:
        raise InputError(f"{data} must be text ({', '.join(TEXT_SUFFIXES)}) or .npz; got {data.suffix}.")
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


def _tokenize(folder: Path, data: Path, tokens: int) -> dict[str, torch.Tensor]:
    import transformers

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
    # Without a file, transformers makes an empty tokenizer.
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        raise InputError(
            f"{folder} must hold a tokenizer to read text; it has none. Give an .npz of token ids."
        )
    try:
        config = transformers.AutoConfig.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    except Exception as error:  # a damaged tokenizer raises many kinds
        line = " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(f"{folder} must hold a tokenizer to read text; {line}") from None
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    # No text is longer than the model has positions for.
    tokens = min(tokens, tokenizer.model_max_length, getattr(config, "max_position_embeddings", tokens))
    found = tokenizer(documents, truncation=True, max_length=tokens, padding=True, return_tensors="pt")
    return {name: found[name] for name in ("input_ids", "attention_mask")}
