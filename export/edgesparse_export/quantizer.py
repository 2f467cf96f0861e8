"""A bundle to the same bundle with an int8 model, refused when it costs more than the user allowed."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnx

from edgesparse_export.exporter import GOLDEN, pack_golden
from edgesparse_export.int8 import (
    Method,
    attention_nodes,
    linear_nodes,
    quantize_dynamically,
    quantize_statically,
)
from edgesparse_runtime.bundle import Bundle, rewrite_bundle
from edgesparse_runtime.errors import GateError, InputError
from edgesparse_runtime.evaluation import score_metrics
from edgesparse_runtime.forecasting import cut_horizon
from edgesparse_runtime.series_set import SeriesSet
from edgesparse_runtime.session import Session

MODEL = "model.int8.onnx"


@dataclass(frozen=True)
class QuantizeReport:
    """What int8 changed.

    Attributes:
        mode: "dynamic" or "static".
        linear_layers: products that were quantized.
        attention_layers: sparse attention layers whose kernel computes in int8.
        series: n of the data that the rest was measured on; 0 without data.
        metric: name of the gated metric, None without labels.
        float32: the metric before.
        int8: the metric after.
        drop: how much worse it got.
        decisions_flipped: series that are decided differently.
        selection_agreement: share of block choices that stay the same; None for dense models.
        bytes_float32: size of the float32 file.
        bytes_int8: size of the int8 file.
    """

    mode: str
    linear_layers: int
    attention_layers: int
    series: int
    metric: str | None
    float32: float | None
    int8: float | None
    drop: float | None
    decisions_flipped: int | None
    selection_agreement: float | None
    bytes_float32: int
    bytes_int8: int

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def quantize_bundle(
    bundle: Bundle,
    *,
    mode: Literal["dynamic", "static"] = "dynamic",
    method: Method = "minmax",
    per_channel: bool = True,
    data: SeriesSet | None = None,
    max_drop: float = 0.01,
    nodes_to_exclude: tuple[str, ...] = (),
) -> tuple[Bundle, QuantizeReport]:
    """Add an int8 model to a bundle.

    Args:
        data: calibrates (static) and, where labelled, gates; static mode needs it.
        max_drop: most that the metric may get worse: a share for accuracy, a share of the float32 error for
            regression.

    Raises:
        InputError: static mode without data, or nothing to quantize.
        GateError: the metric drops more; the bundle stays as it was.
    """
    if mode == "static" and data is None:
        raise InputError("`mode` static needs data to calibrate with. Give `--data FILE` or use dynamic.")
    forecast = bundle.manifest.get("forecast")
    if data is not None and forecast is not None:
        data = cut_horizon(data, str(forecast["channel"]), int(forecast["horizon"]))
    model = onnx.load(bundle.model_path("float32"))
    nodes = [name for name in linear_nodes(model) if name not in nodes_to_exclude]
    if not nodes:
        raise InputError(f"{bundle.path} must hold linear layers to quantize; none is left.")
    if mode == "static":
        assert data is not None
        quantized = quantize_statically(
            model,
            Session(bundle, precision="float32").prepare(data),
            method=method,
            per_channel=per_channel,
            nodes_to_exclude=nodes_to_exclude,
        )
    else:
        quantized = quantize_dynamically(model, per_channel=per_channel, nodes_to_exclude=nodes_to_exclude)
    content = quantized.SerializeToString()
    session = Session(MODEL, content=content)
    attention = [name for name in attention_nodes(model) if name not in nodes_to_exclude]
    report = _measure(bundle, session, data, mode, (len(nodes), len(attention)), len(content))
    golden = bundle.golden()
    golden["scores_int8"] = session.predict(golden["windows"])
    if report.drop is not None and report.drop > max_drop:
        raise GateError(
            f"int8 must cost at most {max_drop:g} {report.metric}; it costs {report.drop:.4f} "
            f"({report.float32:.4f} -> {report.int8:.4f}, n={report.series}). The bundle is unchanged. "
            "Try `--mode static`, `--exclude` a layer, or allow more with `--max-drop`."
        )
    models = bundle.manifest["models"] | {"int8": {"file": MODEL, "report": report.to_dict()}}
    files = {MODEL: content, GOLDEN: pack_golden(**golden)}
    return rewrite_bundle(bundle, files, {"models": models}), report


def _measure(
    bundle: Bundle,
    session: Session,
    data: SeriesSet | None,
    mode: str,
    layers: tuple[int, int],
    size: int,
) -> QuantizeReport:
    before = Session(bundle, precision="float32")
    metric = float32 = int8 = drop = flipped = agreement = None
    if data is not None:
        old, new = before.predict(data), session.predict(before.prepare(data))
        if bundle.task == "classification":
            flipped = int((old.argmax(-1) != new.argmax(-1)).sum())
        if before.is_sparse:
            pairs = zip(before.selections(data), session.selections(before.prepare(data)), strict=True)
            agreement = _agreement(list(pairs))
        if data.labels is not None:
            old_metric = score_metrics(old, data.labels, bundle.classes)[0]
            new_metric = score_metrics(new, data.labels, bundle.classes)[0]
            metric, float32, int8 = old_metric.name, old_metric.value, new_metric.value
            drop = float32 - int8 if bundle.classes else (int8 - float32) / max(float32, 1e-12)
    return QuantizeReport(
        mode=mode,
        linear_layers=layers[0],
        attention_layers=layers[1],
        series=0 if data is None else len(data),
        metric=metric,
        float32=float32,
        int8=int8,
        drop=drop,
        decisions_flipped=flipped,
        selection_agreement=agreement,
        bytes_float32=bundle.model_path("float32").stat().st_size,
        bytes_int8=size,
    )


def _agreement(pairs: list[tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]]) -> float:
    return sum(int((a == b).sum()) for a, b in pairs) / sum(a.size for a, _ in pairs)
