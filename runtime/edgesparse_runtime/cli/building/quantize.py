"""`edgesparse quantize`: an int8 model in a bundle."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgesparse_runtime.bundle.read import open_bundle
from edgesparse_runtime.cli.options import SpecOptions
from edgesparse_runtime.cli.output import note, print_fields, print_json
from edgesparse_runtime.cli.preflight import check_output, check_writable, note_data
from edgesparse_runtime.cli.require import require
from edgesparse_runtime.data.for_model import read_for_model
from edgesparse_runtime.errors import InputError, Interrupted

if TYPE_CHECKING:
    from edgesparse_export.quantize.bundle import QuantizeReport
    from edgesparse_export.quantize.recipe import Int8Recipe
    from edgesparse_export.quantize.search import NodeEffect


@dataclass(frozen=True, kw_only=True)
class QuantizeRequest(SpecOptions):
    """Arguments and options of `edgesparse quantize`."""

    bundle: Annotated[Path, typer.Argument(help="Bundle to add an int8 model to.", show_default=False)]
    data: Annotated[
        Path | None, typer.Option(help="Series to observe ranges on (static) and, labeled, to gate on.")
    ] = None
    mode: Annotated[
        str | None, typer.Option(help="dynamic (scales at run time) or static (ranges seen on --data).")
    ] = None
    method: Annotated[
        str | None, typer.Option(help="Ranges of static mode: minmax, entropy or percentile.")
    ] = None
    linear: Annotated[
        str | None,
        typer.Option(
            help="native: EdgeSparse's operators; onnxruntime: onnxruntime's kernels, fast without the "
            "native library."
        ),
    ] = None
    per_channel: Annotated[bool | None, typer.Option(help="One scale per output channel.")] = None
    targets: Annotated[
        str | None,
        typer.Option(help="Machines that run the file: avx2, avx512, avx_vnni, avx512_vnni, arm64."),
    ] = None
    max_drop: Annotated[
        str, typer.Option(help="Largest drop of the metric, such as 0.01 or balanced_accuracy=0.01.")
    ] = "0.01"
    time_budget: Annotated[
        float | None,
        typer.Option(
            help="Seconds to try each node and keep in float32 what costs too much or gains nothing."
        ),
    ] = None
    exclude: Annotated[list[str] | None, typer.Option(help="Node to keep in float32; may be repeated.")] = (
        None
    )
    config: Annotated[Path | None, typer.Option(help="Quantize with the recipe in this file.")] = None
    write_config: Annotated[
        Path | None,
        typer.Option(help="Write the recipe and ranking here. [after a search: BUNDLE.quantize.yaml]"),
    ] = None
    alarm: Annotated[str | None, typer.Option(help="Class that is an alarm. [the rarer one of two]")] = None
    false_alarms: Annotated[
        float, typer.Option(help="False-alarm rate at which missed alarms are reported.")
    ] = 0.05


def quantize(request: QuantizeRequest) -> None:
    """Add an int8 model to a bundle; exit 3, bundle unchanged, when it costs more than --max-drop.

    Example: edgesparse quantize pump.edgesparse --data pump_TRAIN.csv --max-drop accuracy=0.01
    """
    require("quantize", "export", "onnx")
    from edgesparse_export.quantize.bundle import NothingToQuantizeError, quantize_bundle

    metric, most = _parse_drop(request.max_drop)
    recipe = _recipe(request)
    bundle = request.bundle
    opened = open_bundle(bundle)
    # Before minutes of work: the bundle is written next to the old one and then put in its place.
    check_writable(bundle.absolute().parent, str(bundle))
    if request.write_config is not None:
        check_output(request.write_config, "--write-config")
    series = None
    if request.data is not None:
        series = read_for_model(request.data, opened.manifest, request.read_options(opened.task))
        note_data(series)
    kept = _RecipeFile(request)
    try:
        _, report = quantize_bundle(
            opened,
            recipe,
            data=series,
            max_drop=most,
            metric=metric,
            time_budget=request.time_budget,
            alarm=request.alarm,
            false_alarm_rate=request.false_alarms,
            on_ranking=kept.write,
            say=note,
        )
    except KeyboardInterrupt:
        raise Interrupted("the bundle is unchanged") from None
    except NothingToQuantizeError as reason:
        # No failure: the commands of a README serve every model.
        note(str(reason))
        if request.as_json:
            print_json("quantize", {"bundle": str(bundle), "unchanged": str(reason)})
        else:
            print_fields({"int8": "none: unchanged", "next": f"edgesparse verify {quote(str(bundle))}"})
        return
    if request.write_config is not None and kept.path is None:
        kept.write(report.recipe, [])
    if request.as_json:
        paths = {"config": None if kept.path is None else str(kept.path)}
        print_json("quantize", {"bundle": str(bundle), **paths, **report.to_dict()})
        return
    print_fields(_fields(report) | {"next": f"edgesparse verify {quote(str(bundle))}"})
    if report.ranking:
        _print_ranking(report)


class _RecipeFile:
    """Where the recipe and the ranking of the search go; `path` once written."""

    def __init__(self, request: QuantizeRequest) -> None:
        bundle = request.bundle
        self.path: Path | None = None
        self._target = request.write_config or bundle.parent / f"{bundle.stem}.quantize.yaml"

    def write(self, recipe: Int8Recipe, ranking: list[NodeEffect]) -> None:
        from edgesparse_export.quantize.recipe import write_recipe

        write_recipe(self._target, recipe, [effect.to_dict() for effect in ranking])
        self.path = self._target
        note(f"ranking and config: {self._target}")


def _recipe(request: QuantizeRequest) -> Int8Recipe:
    """The recipe of `--config`, with the options over it."""
    from edgesparse_export.quantize.recipe import Int8Recipe, read_recipe
    from edgesparse_export.quantize.targets import parse_targets

    if request.time_budget is not None and not 0 <= request.time_budget < math.inf:
        raise InputError(f"`--time-budget` must be at least 0 seconds; got {request.time_budget:g}.")
    if not 0 < request.false_alarms < 1:
        raise InputError(f"`--false-alarms` must be between 0 and 1; got {request.false_alarms:g}.")
    recipe = read_recipe(request.config) if request.config is not None else Int8Recipe()
    given: dict[str, Any] = {
        "mode": request.mode,
        "method": request.method,
        "linear": request.linear,
        "per_channel": request.per_channel,
        "targets": None if request.targets is None else parse_targets(request.targets),
        "float32": (*recipe.float32, *request.exclude) if request.exclude else None,
    }
    recipe = replace(recipe, **{name: value for name, value in given.items() if value is not None})
    if request.method is not None and recipe.mode != "static":
        raise InputError(
            f"`--method` {request.method} is for static ranges. Add --mode static, or leave it out."
        )
    return recipe


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
    safe = "the same bits on every machine" if recipe.is_native else ", ".join(recipe.targets)
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
    if change.selection_overlap is not None:
        same = change.selection_overlap
        fields["selection overlap"] = f"{same.value:.2%} [{same.low:.2%}, {same.high:.2%}] (n={same.n})"
    if change.alarms is not None:
        alarms = change.alarms
        fields["missed alarms"] = (
            f"{alarms.missed_float32} -> {alarms.missed_int8}, class {alarms.alarm}, at "
            f"{alarms.false_alarm_rate:.0%} false alarms (n={alarms.without_alarm})"
        )
    if change.series == 0:
        fields["gate"] = "none: give labeled --data to bound the accuracy that int8 costs"
    if not report.complete:
        fields["search"] = "stopped by --time-budget; this is the best recipe found by then"
    return fields


def _print_ranking(report: QuantizeReport) -> None:
    """One line per node tried, the most harmful first."""
    print(f"\n{'node alone in int8':32} {'kind':10} score change  flipped  saves ms [95 %]")
    for effect in report.ranking:
        saved = "not measured"
        if effect.saved_ms is not None:
            saved = f"{effect.saved_ms:.3f} [{effect.low:.3f}, {effect.high:.3f}]"
        flipped = f"{effect.flipped}/{effect.windows}"
        print(f"{effect.name:32} {effect.kind:10} {effect.score_change:12.2e}  {flipped:>7}  {saved}")
