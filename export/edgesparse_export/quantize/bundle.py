"""A bundle to the same bundle with an int8 model, refused when it costs more than the user allowed."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from edgesparse_export.quantize.gate import FALSE_ALARMS, MODEL, Change, QuantizationGate
from edgesparse_export.quantize.int8 import attention_nodes
from edgesparse_export.quantize.recipe import Int8Recipe
from edgesparse_export.quantize.search import Found, NodeEffect, Search
from edgesparse_export.quantize.targets import saturating_nodes
from edgesparse_export.quantize.tensor_models import quantize_tensor_model
from edgesparse_export.run_bundle import GOLDEN, pack_golden
from edgesparse_runtime.bundle.read import Bundle
from edgesparse_runtime.bundle.write import rewrite_bundle
from edgesparse_runtime.data.forecasting import cut_horizon
from edgesparse_runtime.data.series_set import SeriesSet
from edgesparse_runtime.data.tensors.batch import golden_inputs
from edgesparse_runtime.errors import GateError, InputError
from edgesparse_runtime.model_check.metadata import stamp
from edgesparse_runtime.session import Session

# Limit of a search that starts by itself because the gate failed.
SECONDS_AFTER_A_FAILURE = 60.0
Windows = Iterable[npt.NDArray[np.float32]]


@dataclass(frozen=True)
class QuantizeReport:
    """What was quantized and what it changed.

    Attributes:
        recipe: how; can be run again.
        linear_layers: products in int8.
        attention_layers: sparse attention layers whose kernel computes in int8.
        change: figures on the data, each with n and interval.
        ranking: each node's effect, where they were tried.
        tried: models measured on the data.
        complete: False when the time budget ended the search; the result is the best until then.
        bytes_float32: size of the float32 file.
        bytes_int8: size of the int8 file.
    """

    recipe: Int8Recipe
    linear_layers: int
    attention_layers: int
    change: Change
    ranking: list[NodeEffect]
    tried: int
    complete: bool
    bytes_float32: int
    bytes_int8: int

    @property
    def decisions_flipped(self) -> int | None:
        """Series that are decided differently; None without data or for regression."""
        flipped = self.change.flipped
        return None if flipped is None else round(flipped.value * flipped.n)

    @property
    def selection_overlap(self) -> float | None:
        """Share of block choices that stay the same; None for dense models."""
        overlap = self.change.selection_overlap
        return None if overlap is None else overlap.value

    def to_dict(self) -> dict[str, Any]:
        return {
            "recipe": self.recipe.to_dict(),
            "linear_layers": self.linear_layers,
            "attention_layers": self.attention_layers,
            **self.change.to_dict(),
            "ranking": [effect.to_dict() for effect in self.ranking],
            "tried": self.tried,
            "complete": self.complete,
            "bytes_float32": self.bytes_float32,
            "bytes_int8": self.bytes_int8,
        }


class NothingToQuantizeError(InputError):
    """A model without a layer for int8: the bundle is as good as it gets."""


def quantize_bundle(
    bundle: Bundle,
    recipe: Int8Recipe | None = None,
    *,
    data: SeriesSet | None = None,
    max_drop: float = 0.01,
    metric: str | None = None,
    time_budget: float | None = None,
    alarm: str | None = None,
    false_alarm_rate: float = FALSE_ALARMS,
    on_ranking: Callable[[Int8Recipe, list[NodeEffect]], None] | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> tuple[Bundle, QuantizeReport]:
    """Add an int8 model to a bundle.

    Args:
        recipe: how; None = everything, dynamic, in our operators.
        data: series to observe ranges on (static) and, where labeled, to gate on; static mode needs it.
        max_drop: most that the metric may get worse: a share for accuracies, a share of the float32 error
            for regression.
        metric: which one; None = the task's first.
        time_budget: seconds to rank nodes and to find which must stay in float32; None = only when everything
            in int8 fails the gate, for a minute.
        alarm: class whose missed alarms are reported; None = of two classes the rarer.
        false_alarm_rate: at which they are counted.
        on_ranking: is handed the recipe found and the ranking, whether the gate is passed or not.
        say: progress, one line each.

    Raises:
        InputError: the recipe does not fit the model or the data, or leaves nothing to quantize.
        NothingToQuantizeError: the model has nothing but a head, as those without layers do.
        GateError: the metric drops more whatever stays in float32; the bundle stays as it was.
    """
    if math.isnan(max_drop):
        raise InputError("`max_drop` must be a number; got nan, which no model exceeds.")
    if time_budget is not None and data is None:
        raise InputError("`time_budget` needs data to measure nodes on. Give `--data FILE`.")
    recipe = recipe or Int8Recipe()
    data = _with_targets(bundle, data)
    model = onnx.load_from_string(bundle.read(bundle.model_file("float32")))
    _check_nodes(bundle, recipe.nodes(model), recipe)
    if bundle.manifest["input"].get("tensors"):
        return _add(bundle, model, quantize_tensor_model(bundle, model, recipe, max_drop))
    gate = QuantizationGate(bundle, data, metric, max_drop, alarm, false_alarm_rate)
    windows = gate.float_session().prepare(data) if data is not None and recipe.mode == "static" else None
    everything = None
    if time_budget is None:
        everything = _everything(model, recipe, windows, gate)
        if everything.change is not None and gate.holds(everything.change):
            return _add(bundle, model, everything)
    seconds = SECONDS_AFTER_A_FAILURE if time_budget is None else time_budget
    found = Search(model, recipe, windows, gate, time.monotonic() + seconds, say).run()
    if on_ranking is not None:
        on_ranking(found.recipe or recipe, found.ranking)
    if found.recipe is None:
        everything = everything or _everything(model, recipe, windows, gate)
        raise _refusal(gate, everything, found)
    return _add(bundle, model, found)


def _check_nodes(bundle: Bundle, nodes: Collection[str], recipe: Int8Recipe) -> None:
    if "generation" in bundle.manifest:
        raise InputError(f"{bundle.path.name} must not be a language model; those run in float32 only.")
    if not nodes:
        raise NothingToQuantizeError(
            f"{bundle.path} holds no layer that int8 would make faster. Use it in float32."
        )
    if not set(nodes) - set(recipe.float32):
        raise InputError(f"{bundle.path} must hold linear layers to quantize; none is left.")


def _with_targets(bundle: Bundle, data: SeriesSet | None) -> SeriesSet | None:
    """Forecasting: the last steps of the target channel become the labels."""
    forecast = bundle.manifest.get("forecast")
    if data is None or forecast is None:
        return data
    return cut_horizon(data, str(forecast["channel"]), int(forecast["horizon"]))


def _everything(
    model: onnx.ModelProto, recipe: Int8Recipe, windows: Windows | None, gate: QuantizationGate
) -> Found:
    """Everything in int8 but what the recipe leaves out, measured."""
    content: bytes = recipe.apply(model, windows).SerializeToString()
    return Found(recipe, content, gate.measure(content), [], 1, True)


def _refusal(gate: QuantizationGate, everything: Found, found: Found) -> GateError:
    change = everything.change
    assert change is not None
    assert change.metric is not None and change.int8 is not None and change.drop is not None
    return GateError(
        f"int8 must cost at most {gate.max_drop:g} {change.metric.name}; everything in int8 costs "
        f"{change.drop:.4f} ({change.metric.value:.4f} -> {change.int8.value:.4f}, n={change.series}), "
        f"and {found.tried} mixtures tried cost too much as well. The bundle is unchanged. Allow more "
        "with `--max-drop`, or search longer with `--time-budget`."
    )


def _add(bundle: Bundle, model: onnx.ModelProto, found: Found) -> tuple[Bundle, QuantizeReport]:
    recipe, content, change = found.recipe, found.content, found.change
    assert recipe is not None and content is not None and change is not None
    quantized = onnx.ModelProto.FromString(content)
    saturating = saturating_nodes(quantized, recipe.targets)
    if saturating:
        raise GateError(
            f"Weights must not saturate on any of {', '.join(recipe.targets)}; {saturating[0]} can. "
            "Use `--linear native`."
        )
    attention = set(attention_nodes(model)) - set(recipe.float32)
    before = {n.name for n in model.graph.node if n.op_type in ("MatMul", "Gemm")}
    left = {n.name for n in quantized.graph.node if n.op_type in ("MatMul", "Gemm") and n.name in before}
    candidates = set(recipe.nodes(model)) - set(attention_nodes(model)) - set(recipe.float32)
    linear = candidates if recipe.mode == "static" else candidates - left
    content = stamp(content, bundle.manifest)
    report = QuantizeReport(
        recipe,
        len(linear),
        len(attention),
        change,
        found.ranking,
        found.tried,
        found.complete,
        int(bundle.manifest["files"][bundle.model_file("float32")]["bytes"]),
        len(content),
    )
    golden = bundle.golden()
    inputs = golden_inputs(golden)
    assert inputs is not None
    golden["scores_int8"] = Session(MODEL, content=content).predict(inputs)
    models = bundle.manifest["models"] | {"int8": {"file": MODEL, "report": report.to_dict()}}
    files = {MODEL: content, GOLDEN: pack_golden(**golden)}
    # What was made from, or measured with, an older int8 model is removed with it.
    dense = {precision: twin for precision, twin in bundle.manifest["dense"].items() if precision != "int8"}
    measured = [entry for entry in bundle.manifest["breakeven"] if entry.get("precision") != "int8"]
    stale = {t["file"] for t in bundle.manifest["dense"].values()} - {t["file"] for t in dense.values()}
    fields = {"models": models, "dense": dense, "breakeven": measured}
    return rewrite_bundle(bundle, files, fields, without=stale), report
