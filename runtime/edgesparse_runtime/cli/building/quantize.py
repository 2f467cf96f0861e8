"""`edgesparse quantize`: an int8 model in a bundle."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgesparse_runtime.bundle.read import open_bundle
from edgesparse_runtime.cli.output import note, print_fields, print_json
from edgesparse_runtime.cli.preflight import check_output, check_writable
from edgesparse_runtime.cli.require import require
from edgesparse_runtime.data.readers import ReadOptions, read_dataset
from edgesparse_runtime.errors import InputError, Interrupted

if TYPE_CHECKING:
    from edgesparse_export.quantize.bundle import QuantizeReport


def quantize(
    bundle: Annotated[Path, typer.Argument(help="Bundle to add an int8 model to.", show_default=False)],
    data: Annotated[
        Path | None, typer.Option(help="Series to calibrate with (static) and, labeled, to gate on.")
    ] = None,
    mode: Annotated[
        str | None, typer.Option(help="dynamic (scales as it runs) or static (ranges seen on --data).")
    ] = None,
    method: Annotated[
        str | None, typer.Option(help="Ranges of static mode: minmax, entropy or percentile.")
    ] = None,
    linear: Annotated[
        str | None,
        typer.Option(help="native: our operators; onnxruntime: its own, fast without our library too."),
    ] = None,
    per_channel: Annotated[bool | None, typer.Option(help="One scale an output channel.")] = None,
    targets: Annotated[
        str | None,
        typer.Option(help="Machines that run the file: avx2, avx512, avx_vnni, avx512_vnni, arm64."),
    ] = None,
    max_drop: Annotated[
        str, typer.Option(help="Most that the metric may drop, as in 0.01 or balanced_accuracy=0.01.")
    ] = "0.01",
    time_budget: Annotated[
        float | None,
        typer.Option(
            help="Seconds to try each node and keep in float32 what costs too much or gains nothing."
        ),
    ] = None,
    exclude: Annotated[
        list[str] | None, typer.Option(help="Node to keep in float32; may be repeated.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="Quantize as this file says.")] = None,
    write_config: Annotated[
        Path | None,
        typer.Option(help="Where the config and ranking go; a search writes BUNDLE.quantize.yaml anyway."),
    ] = None,
    alarm: Annotated[str | None, typer.Option(help="Class that is an alarm; of two, the rarer.")] = None,
    false_alarms: Annotated[float, typer.Option(help="Rate at which missed alarms are counted.")] = 0.05,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Add an int8 model to a bundle; exit 3, bundle unchanged, when it costs more than --max-drop.

    Example: edgesparse quantize pump.edgesparse --data pump_TRAIN.csv --max-drop accuracy=0.01
    """
    require("quantize", "export", "onnx")
    from edgesparse_export.quantize.bundle import quantize_bundle
    from edgesparse_export.quantize.recipe import Int8Recipe, read_recipe, write_recipe
    from edgesparse_export.quantize.search import NodeEffect
    from edgesparse_export.quantize.targets import parse_targets

    metric, most = _parse_drop(max_drop)
    if time_budget is not None and not 0 <= time_budget < math.inf:
        raise InputError(f"`--time-budget` must be at least 0 seconds; got {time_budget:g}.")
    if not 0 < false_alarms < 1:
        raise InputError(f"`--false-alarms` must lie between 0 and 1; got {false_alarms:g}.")
    recipe = read_recipe(config) if config is not None else Int8Recipe()
    given: dict[str, Any] = {"mode": mode, "method": method, "linear": linear, "per_channel": per_channel}
    given["targets"] = None if targets is None else parse_targets(targets)
    given["float32"] = (*recipe.float32, *exclude) if exclude else None
    recipe = replace(recipe, **{name: value for name, value in given.items() if value is not None})
    if method is not None and recipe.mode != "static":
        raise InputError(f"`--method` {method} is for static ranges. Add --mode static, or leave it out.")
    opened = open_bundle(bundle)
    # Before minutes of work: the bundle is written beside itself and then put in place.
    check_writable(bundle.absolute().parent, str(bundle))
    if write_config is not None:
        check_output(write_config, "--write-config")
    series = None
    if data is not None:
        series = read_dataset(data, ReadOptions(task=opened.task))  # type: ignore[arg-type]
    written: list[Path] = []

    def keep(found: Int8Recipe, ranking: list[NodeEffect]) -> None:
        path = write_config or bundle.parent / f"{bundle.stem}.quantize.yaml"
        write_recipe(path, found, [effect.to_dict() for effect in ranking])
        written.append(path)
        note(f"ranking and config: {path}")

    try:
        _, report = quantize_bundle(
            opened,
            recipe,
            data=series,
            max_drop=most,
            metric=metric,
            time_budget=time_budget,
            alarm=alarm,
            false_alarm_rate=false_alarms,
            on_ranking=keep,
            say=note,
        )
    except KeyboardInterrupt:
        raise Interrupted("the bundle is unchanged") from None
    if write_config is not None and not written:
        keep(report.recipe, [])
    if as_json:
        paths = {"config": str(written[0]) if written else None}
        print_json("quantize", {"bundle": str(bundle), **paths, **report.to_dict()})
        return
    print_fields(_fields(report) | {"next": f"edgesparse verify {quote(str(bundle))}"})
    if report.ranking:
        _print_ranking(report)


def _parse_drop(text: str) -> tuple[str | None, float]:
    """`0.01` or `METRIC=0.01`."""
    name, found, value = text.rpartition("=")
    try:
        most = float(value)
    except ValueError:
        raise InputError(f"`--max-drop` must be a number or METRIC=NUMBER; got {text}. Use 0.01.") from None
    if not 0 <= most < math.inf:
        raise InputError(f"`--max-drop` must be at least 0 and finite; got {value}. Use 0.01.")
    return (name or None) if found else None, most


def _fields(report: QuantizeReport) -> dict[str, object]:
    change, recipe = report.change, report.recipe
    layers = f"{report.linear_layers} linear and {report.attention_layers} attention layers"
    safe = "exact everywhere" if recipe.is_native else ", ".join(recipe.targets)
    fields: dict[str, object] = {
        "int8": f"{layers}, {recipe.mode}, {'native' if recipe.is_native else 'onnxruntime'}",
        "targets": safe if recipe.is_native or not recipe.seven_bits else f"{safe} (7-bit weights)",
        "file": f"{report.bytes_float32 / 1024:.0f} kB -> {report.bytes_int8 / 1024:.0f} kB",
    }
    if recipe.float32:
        fields["in float32"] = ", ".join(recipe.float32)
    if change.metric is not None and change.int8 is not None:
        fields[change.metric.name] = (
            f"{change.metric.value:.4f} -> {change.int8.value:.4f} (n={change.series})"
        )
    if change.flipped is not None:
        flipped = change.flipped
        fields["decisions flipped"] = (
            f"{report.decisions_flipped} of {flipped.n} [{flipped.low:.1%}, {flipped.high:.1%}]"
        )
    if change.agreement is not None:
        same = change.agreement
        fields["block choices equal"] = f"{same.value:.2%} [{same.low:.2%}, {same.high:.2%}] (n={same.n})"
    if change.alarms is not None:
        alarms = change.alarms
        fields["missed alarms"] = (
            f"{alarms.missed_float32} -> {alarms.missed_int8}, class {alarms.alarm}, at "
            f"{alarms.false_alarm_rate:.0%} false alarms (n={alarms.without_alarm})"
        )
    if change.series == 0:
        fields["gate"] = "none: give --data with labels to bound what int8 costs"
    if not report.complete:
        fields["search"] = "ended by --time-budget; this is the best until then"
    return fields


def _print_ranking(report: QuantizeReport) -> None:
    """A line for each node tried, the most harmful first."""
    print(f"\n{'node alone in int8':32} {'kind':10} score change  flipped  saves ms [95 %]")
    for effect in report.ranking:
        saved = "not measured"
        if effect.saved_ms is not None:
            saved = f"{effect.saved_ms:.3f} [{effect.low:.3f}, {effect.high:.3f}]"
        flipped = f"{effect.flipped}/{effect.windows}"
        print(f"{effect.name:32} {effect.kind:10} {effect.score_change:12.2e}  {flipped:>7}  {saved}")
