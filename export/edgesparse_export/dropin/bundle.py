"""A sparsified model to a bundle: the same files, verdict and gates as for a trained run."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import torch
from torch import nn

from edgesparse.attention.record import attention_records
from edgesparse.dropin.batches import read_batches
from edgesparse.dropin.calibration import Calibration
from edgesparse.dropin.layers import attention_mode, counted_density, dropin_layers, layer_names
from edgesparse.dropin.outputs import Batch, padding_of, run_model, try_model
from edgesparse_export.dropin.program import dropin_to_onnx, has_free_tokens, named_tensors
from edgesparse_export.parity import LEAST_AGREEMENT, Parity
from edgesparse_export.run_bundle import CARD, GOLDEN, MODEL, pack_golden
from edgesparse_runtime.bundle.read import Bundle
from edgesparse_runtime.bundle.write import check_target, write_bundle
from edgesparse_runtime.data.escape import escape_terminal
from edgesparse_runtime.data.tensors.batch import PREFIX, TensorBatch
from edgesparse_runtime.errors import GateError
from edgesparse_runtime.model_check.metadata import stamp
from edgesparse_runtime.session import Session

# Of states as the model returns them, and of one vector per text.
TASK, EMBEDDING = "encoding", "embedding"
DENSE = "model.dense.onnx"
# docs/reference/numerics.md, row "exported drop-in model against torch": of a token's largest entry.
OF_LARGEST = 1e-4
FloatArray = npt.NDArray[np.float32]


def export_model(
    model: nn.Module,
    batch: Batch,
    out: Path,
    *,
    calibration: Calibration | None = None,
    source: str = "",
    dense: bytes | None = None,
    text: tuple[dict[str, bytes], dict[str, Any]] | None = None,
) -> tuple[Bundle, Parity]:
    """Export a sparsified model with a parity verdict that must hold.

    Args:
        batch: two or more rows of real inputs: engines are compared on them, and two go into the bundle.
        out: the bundle, NAME.edgesparse.
        calibration: what `calibrate` returned, for the manifest and the card.
        source: where the model comes from, for the card.
        dense: what `dense_model` made of the model; goes into the bundle, for `attention="dense"`.
        text: files and facts that let the bundle take text (`sentence_encoder.text_parts`).

    Raises:
        InputError: the name of the bundle does not fit, or the model does not take the batch.
        GateError: the exported file's outputs differ from the model's; nothing is written.
    """
    out = Path(out)
    check_target(out)
    batch = read_batches([batch])[0]
    with attention_mode(model, "sparse"):
        try_model(model, batch)
    content: bytes = ir.to_proto(dropin_to_onnx(model, batch)).SerializeToString()
    session = Session(MODEL, content=content)
    verdict = check_parity(model, session, batch)
    if not verdict.holds:
        raise GateError(
            f"The exported model must give the model's outputs; the largest difference is "
            f"{verdict.largest_difference:.2e}, block choices equal {verdict.selection_overlap or 1:.2%}. "
            "Nothing was written."
        )
    golden = to_arrays(batch)[:2]
    arrays: dict[str, npt.NDArray[Any]] = {PREFIX + name: x for name, x in golden.arrays.items()}
    arrays["scores_float32"] = session.predict(golden)
    for i, selection in enumerate(session.selections(golden)):
        arrays[f"selection_float32.{i}"] = selection
    fields = model_fields(model, batch, out, verdict, calibration, source)
    content = stamp(content, fields)
    files = {MODEL: content, GOLDEN: pack_golden(**arrays), CARD: card(fields).encode()}
    if text is not None:
        files |= text[0]
        fields |= {"task": EMBEDDING, "text": text[1]}
    if dense is not None:
        files[DENSE] = dense
        fields["dense"] = {"float32": {"file": DENSE, "of": hashlib.sha256(content).hexdigest()}}
    return write_bundle(out, files, fields), verdict


def dense_model(model: nn.Module, batch: Batch) -> bytes:
    """The sparsified model with dense attention, as an ONNX file to compare with: onnxruntime's fused form.

    Raises:
        InputError: the model does not take the batch, or it has one row.
        GateError: the file's outputs differ from the dense model's.
    """
    content: bytes = ir.to_proto(dropin_to_onnx(model, batch, dense=True)).SerializeToString()
    with attention_mode(model, "dense"):
        expected = run_model(model, batch).numpy()
    actual = Session(DENSE, content=content).predict(to_arrays(batch))
    padding = padding_of(batch) if expected.ndim == 3 else None
    # Fused attention leaves other values in places that nobody reads.
    real = np.ones(expected.shape[:2], bool) if padding is None else padding.numpy()
    difference = np.abs(actual - expected)
    allowed = OF_LARGEST * np.abs(expected).max(-1, keepdims=True) + 1e-5
    is_per_token = expected.ndim == 3 and real.shape == expected.shape[:2]
    if not (difference <= allowed)[real if is_per_token else ...].all():
        raise GateError(
            f"The dense export must give the dense model's outputs; they differ by {difference.max():.2e}. "
            "Nothing was written. Leave --with-dense out."
        )
    return content


def to_arrays(batch: Batch) -> TensorBatch:
    """The batch as an exported model takes it."""
    return TensorBatch({name: x.numpy() for name, x in named_tensors(batch).items()})


def check_parity(model: nn.Module, session: Session, batch: Batch) -> Parity:
    """The verdict over two batch sizes and, where tokens are free, two lengths.

    A row whose block choices are all the same must agree to `OF_LARGEST` of each token's largest entry. A row
    in which a block lies on the edge of `top_p` may differ; of all choices one in a thousand may.
    """
    tensors = named_tensors(batch)
    shorter = {
        name: x[:, : max(1, x.shape[1] * 2 // 3)] if has_free_tokens(x) else x for name, x in tensors.items()
    }
    largest, equal, total, rows, within = 0.0, 0, 0, 0, True
    for part in (tensors, {name: x[:1] for name, x in tensors.items()}, shorter):
        expected, chosen = _torch_outputs(model, part, is_lone=not hasattr(batch, "keys"))
        arrays = TensorBatch({name: x.numpy() for name, x in part.items()})
        actual, selections = session.predict(arrays), session.selections(arrays)
        same = np.ones(len(actual), dtype=bool)
        for a, b in zip(chosen, selections, strict=True):
            agree = (a == b).reshape(len(a), -1)
            same &= agree.all(-1)
            equal, total = equal + int(agree.sum()), total + agree.size
        difference = np.abs(actual - expected)
        allowed = OF_LARGEST * np.abs(expected).max(-1, keepdims=True) + 1e-5
        within &= bool((difference <= allowed)[same].all())
        largest = max(largest, float(difference[same].max(initial=0.0)))
        rows += len(actual)
    agreement = equal / total
    # Scores of rows whose blocks differ are left out above, so how many differ is bounded here.
    return Parity(
        windows=rows,
        largest_difference=largest,
        within_tolerance=within and agreement >= LEAST_AGREEMENT,
        decisions_flipped=0,
        selection_overlap=agreement,
    )


def _torch_outputs(
    model: nn.Module, tensors: dict[str, torch.Tensor], *, is_lone: bool
) -> tuple[FloatArray, list[npt.NDArray[np.bool_]]]:
    """The model's output and each layer's selection in torch."""
    batch: Batch = tensors["input"] if is_lone else tensors
    with attention_mode(model, "sparse"), attention_records(model) as records:
        output = run_model(model, batch).numpy()
    selections = [record.selection.numpy() for record in records.values() if record.selection is not None]
    return output, selections


def model_fields(
    model: nn.Module, batch: Batch, out: Path, verdict: Parity, calibration: Calibration | None, source: str
) -> dict[str, Any]:
    """What the manifest holds of the model."""
    layers, tensors = dropin_layers(model), named_tensors(batch)
    rule = layers[0].rule
    with attention_mode(model, "sparse"):
        run_model(model, batch)
        density = counted_density(model)
    tokens = next(iter(tensors.values())).shape[-1]
    positions = position_count(model)
    return {
        "name": out.stem,
        "task": TASK,
        "channels": [],
        "classes": [],
        "input": {
            "variable_length": any(has_free_tokens(x) for x in tensors.values()),
            "shortest": 1,
            "longest": tokens,
            "tensors": [
                {"name": name, "type": str(x.dtype).removeprefix("torch."), "shape": list(x.shape[1:])}
                for name, x in tensors.items()
            ],
            **({} if positions is None else {"positions": positions}),
        },
        "models": {"float32": {"file": MODEL, "attention": "sparse"}},
        "attention": {
            "mode": "sparse",
            "layers": layer_names(model),
            "num_heads": layers[0].heads,
            "block_size": rule.block_size,
            "window": rule.window,
            "summaries": rule.summaries,
            "causal": layers[0].is_causal,
        },
        "dropin": {
            "source": escape_terminal(source or type(model).__name__),
            "density": density,
            "calibration": None if calibration is None else calibration.to_dict(),
        },
        "parameters": sum(p.numel() for p in model.parameters()),
        "parity": verdict.to_dict(),
    }


def position_count(model: nn.Module) -> int | None:
    """Most tokens that a model with a table of learned positions takes; None for one without."""
    for name, module in model.named_modules():
        if isinstance(module, nn.Embedding) and name.rsplit(".", 1)[-1] in ("position_embeddings", "wpe"):
            # RoBERTa and its kin count positions from behind the padding id.
            offset = 0 if module.padding_idx is None else module.padding_idx + 1
            return module.num_embeddings - offset
    return None


def card(fields: dict[str, Any]) -> str:
    """The bundle's README."""
    dropin, calibration = fields["dropin"], fields["dropin"]["calibration"]
    inputs = ", ".join(f"`{x['name']}` {x['type']}" for x in fields["input"]["tensors"])
    meaning = "the model's main output, unchanged in meaning"
    if "generation" in fields:
        inputs += " and, as long as it is not empty, the cache"
        meaning = "of the next token; keys and values are the cache. Answers are written densely"
    lines = [
        f"# {fields['name']}",
        "",
        f"{dropin['source']} with sparse attention in {len(fields['attention']['layers'])} layers.",
        "",
        f"- inputs: {inputs}; output `scores`: {meaning}",
        f"- density: {dropin['density']:.1%} of query-key pairs on the inputs that were exported with",
    ]
    if calibration:
        where = f"{calibration['held_out']} held-out batches" if calibration["held_out"] else "the same batch"
        lines.append(f"- cosine to the dense model: {calibration['cosine']:.4f} on {where}")
    else:
        lines.append("- not calibrated: measure against the dense model before use")
    lines += [
        "",
        "Sparse attention approximates the dense model. How near depends on the input: measure on your own.",
        "",
    ]
    return "\n".join(lines)
