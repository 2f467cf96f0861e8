"""`edgesparse quantize`: an int8 model in a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgesparse_runtime.bundle import open_bundle
from edgesparse_runtime.cli.output import print_fields, print_json
from edgesparse_runtime.cli.require import require
from edgesparse_runtime.errors import InputError
from edgesparse_runtime.readers import ReadOptions, read_dataset


def quantize(
    bundle: Annotated[Path, typer.Argument(help="Bundle to add an int8 model to.", show_default=False)],
    data: Annotated[
        Path | None, typer.Option(help="Series to calibrate with (static) and, labelled, to gate on.")
    ] = None,
    mode: Annotated[str, typer.Option(help="dynamic or static.")] = "dynamic",
    method: Annotated[
        str, typer.Option(help="Ranges of static mode: minmax, entropy or percentile.")
    ] = "minmax",
    per_channel: Annotated[bool, typer.Option(help="One scale an output channel.")] = True,
    max_drop: Annotated[
        float, typer.Option(help="Most that the metric may drop; beyond, nothing is written.")
    ] = 0.01,
    exclude: Annotated[
        list[str] | None, typer.Option(help="Node to keep in float32; may be repeated.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Add an int8 model to a bundle; exit 3, bundle unchanged, when it costs more than --max-drop.

    Example: edgesparse quantize pump.edgesparse --data pump_TRAIN.csv --max-drop 0.01
    """
    require("quantize", "export", "onnx")
    from edgesparse_export.quantizer import quantize_bundle

    if mode not in ("dynamic", "static"):
        raise InputError(f"`--mode` must be dynamic or static; got {mode}.")
    if method not in ("minmax", "entropy", "percentile"):
        raise InputError(f"`--method` must be minmax, entropy or percentile; got {method}.")
    opened = open_bundle(bundle)
    series = None
    if data is not None:
        series = read_dataset(data, ReadOptions(task=opened.task))  # type: ignore[arg-type]
    _, report = quantize_bundle(
        opened,
        mode=mode,  # type: ignore[arg-type]
        method=method,  # type: ignore[arg-type]
        per_channel=per_channel,
        data=series,
        max_drop=max_drop,
        nodes_to_exclude=tuple(exclude or ()),
    )
    if as_json:
        print_json("quantize", {"bundle": str(bundle), **report.to_dict()})
        return
    layers = f"{report.linear_layers} linear and {report.attention_layers} attention layers"
    fields: dict[str, object] = {
        "int8": f"{layers}, {report.mode}",
        "file": f"{report.bytes_float32 / 1024:.0f} kB -> {report.bytes_int8 / 1024:.0f} kB",
    }
    if report.metric is not None:
        fields[report.metric] = f"{report.float32:.4f} -> {report.int8:.4f} (n={report.series})"
    if report.decisions_flipped is not None:
        fields["decisions flipped"] = f"{report.decisions_flipped} of {report.series}"
    if report.selection_agreement is not None:
        fields["block choices equal"] = f"{report.selection_agreement:.2%}"
    if report.series == 0:
        fields["gate"] = "none: give --data with labels to bound what int8 costs"
    fields["next"] = f"edgesparse verify {bundle}"
    print_fields(fields)
