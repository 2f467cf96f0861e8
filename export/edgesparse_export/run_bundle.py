"""A run folder to a bundle: ONNX, golden windows, manifest and card, with a parity verdict that must hold."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import torch

from edgesparse.model.data_facts import DataFacts
from edgesparse.training.budget import sparse_layers
from edgesparse.training.run_folder import Run, load_run
from edgesparse.unknown.score import features_of
from edgesparse_export.card import write_card
from edgesparse_export.parity import Parity, compare, torch_outputs
from edgesparse_export.program import is_causal, module_names, to_onnx
from edgesparse_export.step.files import can_step, step_part
from edgesparse_runtime.bundle.read import Bundle
from edgesparse_runtime.bundle.write import check_target, write_bundle
from edgesparse_runtime.data.channels import check_channels
from edgesparse_runtime.data.escape import escape_terminal
from edgesparse_runtime.data.for_model import options_for
from edgesparse_runtime.data.readers import ReadOptions, read_dataset
from edgesparse_runtime.data.sensors.channel_order import FILE as ORDER
from edgesparse_runtime.data.sensors.input_check import check_input
from edgesparse_runtime.data.series_set import Grid, SeriesSet
from edgesparse_runtime.errors import GateError
from edgesparse_runtime.explain.prototypes import FILE as PROTOTYPES
from edgesparse_runtime.explain.prototypes import choose_prototypes
from edgesparse_runtime.model_check.metadata import stamp
from edgesparse_runtime.session import Session
from edgesparse_runtime.stream.monitor.model import learn_from
from edgesparse_runtime.stream.monitor.reference import FILE as MONITOR
from edgesparse_runtime.stream.monitor.signals import Signals

MODEL, GOLDEN, CARD = "model.onnx", "golden.npz", "card.md"
GOLDEN_WINDOWS = 8
# Of the score of unknown windows, where 1 is the threshold.
UNKNOWN_TOLERANCE = 1e-2
FloatArray = npt.NDArray[np.float32]


def export_run(
    run: Run | str | Path, out: str | Path, *, data: SeriesSet | str | Path | None = None
) -> tuple[Bundle, Parity]:
    """Export a trained model. A bundle that is already at `out` is replaced, once the new one is complete.

    Args:
        run: a trained run, or its folder.
        out: the bundle's folder, NAME.edgesparse.
        data: real series to compare the engines on, or a file of them, which is cut into windows as the
            training data were; None = synthetic windows like the training ones.

    Raises:
        InputError: no run, another kind of file at `out`, or data that do not fit the model.
        GateError: the exported model's outputs differ from the trained model's; nothing is written.
    """
    run = run if isinstance(run, Run) else load_run(run)
    out = Path(out)
    check_target(out)
    if isinstance(data, (str, Path)):
        data = read_for_run(data, run)
    windows = golden_windows(run, data)
    proto = onnx_bytes(run, windows)
    verdict, golden = check_parity(run, proto, windows)
    if not verdict.holds:
        raise GateError(
            f"The exported model's outputs must equal the trained model's; the largest score difference is "
            f"{verdict.largest_difference:.2e}, {verdict.decisions_flipped} of {verdict.windows} decisions "
            f"flipped, selection overlap {verdict.selection_overlap or 1:.2%}. Nothing was written."
        )
    fields = manifest_fields(run, out, verdict)
    files = {
        MODEL: stamp(proto, fields),
        GOLDEN: pack_golden(windows=windows, **golden),
        CARD: write_card(fields, data).encode(),
    }
    if run.order is not None:
        files[ORDER] = run.order.to_bytes()
    reference = None if data is None else learn_monitor(run, proto, data)
    if reference is not None:
        files[MONITOR] = reference
    prototypes = None if data is None else learn_prototypes(run, proto, data)
    if prototypes is not None:
        files[PROTOTYPES] = prototypes
    if can_step(run.model):
        session = Session(MODEL, content=proto)
        step, fields["stream"] = step_part(run.model, run.to_scores, session, windows)
        files |= step
    return write_bundle(out, files, fields), verdict


def learn_monitor(run: Run, proto: bytes, data: SeriesSet) -> bytes | None:
    """The reference that `edgesparse monitor` compares windows with (docs/guides/operate.md).

    None where every window looks as if a sensor were dead: nothing can be compared with such data.
    """
    session = Session(MODEL, content=proto)
    data = check_channels(data, tuple(run.facts.channels))
    signals = Signals(run.facts.channels, run.facts.classes, session.score_count)
    if all(check_input(session, data)):
        return None
    return learn_from(session, signals, data).to_json().encode()


def learn_prototypes(run: Run, proto: bytes, data: SeriesSet) -> bytes | None:
    """Typical windows per class, for `edgesparse explain` (docs/guides/explain.md); None of a regression."""
    if run.task != "classification":
        return None
    data = check_channels(data, tuple(run.facts.channels))
    chosen = choose_prototypes(Session(MODEL, content=proto), data, run.facts.classes)
    return None if chosen is None else chosen.to_bytes()


def read_for_run(path: str | Path, run: Run, options: ReadOptions | None = None) -> SeriesSet:
    """Read data as the run's training data were read: its window, stride, channels and rate.

    Args:
        options: what the user stated; it goes before what the run has.
    """
    facts = run.facts
    chosen = options_for(
        Grid(facts.window, facts.stride, facts.period, facts.zone),
        tuple(facts.channels),
        run.task,
        options,
        horizon=facts.horizon,
        needs_labels=False,
    )
    return read_dataset(path, chosen)


def onnx_bytes(run: Run, windows: FloatArray) -> bytes:
    """The ONNX file of a run."""
    # Two windows: an example batch of one would be taken for a constant.
    example = torch.from_numpy(np.concatenate([windows, windows])[:2])
    model = to_onnx(run.model, example, run.to_scores, run.unknown)
    content: bytes = ir.to_proto(model).SerializeToString()
    return content


def check_parity(run: Run, proto: bytes, windows: FloatArray) -> tuple[Parity, dict[str, npt.NDArray[Any]]]:
    """The verdict over two batch sizes and two lengths, and the exported model's outputs for `windows`."""
    session = Session(MODEL, content=proto)
    layers = len(sparse_layers(run.model))
    parts = []
    shorter = max(min_steps(run), windows.shape[2] * 2 // 3)
    _check_unknown(run, session, windows)
    for batch in (windows, windows[:1], windows[:, :, :shorter]):
        expected, expected_selections = torch_outputs(run.model, run.to_scores, batch)
        actual = session.predict(batch)
        selections = session.selections(batch) if layers else []
        parts.append(
            compare(
                expected,
                actual,
                expected_selections,
                selections,
                is_classification=run.task == "classification",
            )
        )
    if is_causal(run.model):
        with torch.no_grad():
            expected = run.to_scores(run.model.score_tokens(torch.from_numpy(windows))).flatten(0, 1).numpy()
        actual = session.token_scores(windows)
        # Halfway through a window two classes may stand level: no token's decision counts as one.
        parts.append(compare(expected, actual.reshape(expected.shape), is_classification=False))
    agreements = [p.selection_overlap for p in parts if p.selection_overlap is not None]
    verdict = replace(
        parts[0],
        windows=sum(p.windows for p in parts[:3]),
        largest_difference=max(p.largest_difference for p in parts),
        within_tolerance=all(p.within_tolerance for p in parts),
        decisions_flipped=sum(p.decisions_flipped for p in parts),
        selection_overlap=min(agreements) if agreements else None,
        choices_that_matter=max(p.choices_that_matter for p in parts),
    )
    golden: dict[str, npt.NDArray[Any]] = {"scores_float32": session.predict(windows)}
    for i, selection in enumerate(session.selections(windows) if layers else []):
        golden[f"selection_float32.{i}"] = selection
    return verdict, golden


def _check_unknown(run: Run, session: Session, windows: FloatArray) -> None:
    """Raise GateError where the exported score of unknown windows is not that of the run."""
    if run.unknown is None:
        return
    batch = torch.from_numpy(windows)
    with torch.no_grad():
        expected = torch.cat([run.unknown(features_of(run.model, row[None])) for row in batch]).numpy()
    actual = session.predict_with_unknown(windows)[1]
    if actual is None or not np.allclose(actual, expected, rtol=UNKNOWN_TOLERANCE, atol=UNKNOWN_TOLERANCE):
        raise GateError(
            "The exported score of unknown windows must be the trained model's within "
            f"{UNKNOWN_TOLERANCE:g}; it is not. Nothing was written."
        )


def golden_windows(run: Run, data: SeriesSet | None) -> FloatArray:
    """A few windows that travel with the bundle: real ones where there are any."""
    if data is not None and len(data):
        data = check_channels(data, tuple(run.facts.channels))
        rows = np.unique(np.linspace(0, len(data) - 1, GOLDEN_WINDOWS).astype(int))
        return data.take(rows).to_batch()
    generator = np.random.default_rng(0)
    shape = (GOLDEN_WINDOWS, len(run.facts.channels), max(run.facts.longest, min_steps(run)))
    walk = generator.standard_normal(shape).cumsum(axis=-1)
    return np.asarray(walk / walk.std(axis=-1, keepdims=True), dtype=np.float32)


def min_steps(run: Run) -> int:
    """Shortest window that the model takes: one token."""
    return run.model.patch


def pack_golden(**arrays: npt.NDArray[Any]) -> bytes:
    """Golden vectors as the bytes of golden.npz."""
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]
    return stream.getvalue()


def manifest_fields(run: Run, out: Path, verdict: Parity) -> dict[str, Any]:
    """What the manifest holds of the model."""
    model, facts = run.config.model, run.facts
    forecast: dict[str, Any] = {}
    if run.task == "forecasting":
        forecast["forecast"] = {
            "channel": facts.target_channel,
            "horizon": facts.horizon,
            "season": facts.season,
        }
    return {
        "name": out.stem,
        "task": run.task,
        "channels": _channels(facts),
        "classes": run.facts.classes,
        "input": {
            "variable_length": run.facts.variable_length,
            "shortest": run.facts.shortest,
            "longest": run.facts.longest,
            "min_steps": min_steps(run),
            "steps_per_token": run.model.patch,
            "window": facts.window,
            "stride": facts.stride,
            "period": facts.period,
            "zone": facts.zone,
        },
        "models": {"float32": {"file": MODEL, "attention": model.attention}},
        "attention": {
            "mode": model.attention if model.layers else "none",
            "layers": module_names(run.model),
            "num_heads": model.num_heads,
            "block_size": run.model.block_size,
            "window": model.window,
            "summaries": model.summaries,
            "causal": model.causal,
            "tokens_at_longest": run.model.token_count(run.facts.longest),
        },
        "training": {
            "source": escape_terminal(facts.source),
            "series": facts.series,
            "roles": facts.roles,
            "notes": facts.notes,
            "config": run.config.to_dict(),
        },
        "parameters": run.report["parameters"],
        "budget": run.report["budget"],
        "compute": run.report["compute"],
        "metrics": run.report["metrics"],
        "temperature": run.report.get("temperature"),
        "held_out": run.report.get("held_out"),
        "cross_validation": run.report.get("cross_validation"),
        "skip": run.report.get("skip"),
        "unknown": None if run.unknown is None else {"threshold": 1.0} | run.report.get("unknown", {}),
        "parity": verdict.to_dict(),
    } | forecast


def _channels(facts: DataFacts) -> list[dict[str, Any]]:
    """Name, unit and what the channel is like in training, in the order of the model's input."""
    found: list[dict[str, Any]] = []
    for i, name in enumerate(facts.channels):
        channel: dict[str, Any] = {"name": name, "unit": facts.units[i] if facts.units else None}
        if facts.typical and facts.typical[i] is not None:
            channel["typical"] = facts.typical[i]
        found.append(channel)
    return found
