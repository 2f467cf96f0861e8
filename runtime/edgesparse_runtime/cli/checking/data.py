"""`edgesparse data inspect`: what was understood of data before a model is trained on them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from edgesparse_runtime.bundle.output_file import write_output
from edgesparse_runtime.cli.options import TableOptions
from edgesparse_runtime.cli.output import note, print_fields, print_json, print_table
from edgesparse_runtime.cli.preflight import check_not_an_input, check_output
from edgesparse_runtime.data.escape import escape_terminal
from edgesparse_runtime.data.inspection.finding import Finding
from edgesparse_runtime.data.inspection.inspect import Inspection, inspect_data
from edgesparse_runtime.data.readers.spec import spec_text
from edgesparse_runtime.errors import InputError
from edgesparse_runtime.measure.report.data_page import inspection_page

MOST_GROUPS = 8
# Findings of one kind.
MOST_SHOWN = 5


@dataclass(frozen=True, kw_only=True)
class DataRequest(TableOptions):
    """Arguments and options of `edgesparse data`."""

    words: Annotated[
        list[str],
        typer.Argument(
            metavar="inspect PATH", help="A data file or folder of recordings.", show_default=False
        ),
    ]
    task: Annotated[str, typer.Option(help="classification, regression or forecasting.")] = "classification"
    html: Annotated[Path | None, typer.Option(help="Write a page with charts here.")] = None
    save_spec: Annotated[
        Path | None, typer.Option(help="Write how the data were read here, for --spec of every verb.")
    ] = None


def data(request: DataRequest) -> None:
    """Show what was understood of data, and what looks wrong, before training: nothing is changed.

    Example: edgesparse data inspect recordings --label-from '{label}/{group}_*' --html recordings.html

    Example: edgesparse data inspect recordings --encoding cp932 --save-spec data.yaml
    """
    action, words = request.words[0], request.words[1:]
    if action != "inspect":
        raise InputError(f"`edgesparse data` must be followed by inspect; got {action}.")
    if len(words) != 1:
        raise InputError(
            f"`edgesparse data inspect` must be given one path; got {' '.join(words) or 'none'}."
        )
    path = Path(words[0])
    for option, output in (("--html", request.html), ("--save-spec", request.save_spec)):
        if output is not None:
            check_output(output, option)
            if not path.is_dir():
                check_not_an_input(output, [path], option)
    found = inspect_data(path, request.read_options(request.task))
    if request.as_json:
        print_json("data_inspect", found.to_dict())
    else:
        _show(found)
    if request.html is not None:
        write_output(request.html, inspection_page(found))
        note(f"written: {request.html}")
    if request.save_spec is not None:
        write_output(request.save_spec, spec_text(_spec(request, found)))
        note(f"written: {request.save_spec}")


def _spec(request: DataRequest, found: Inspection) -> dict[str, Any]:
    """What was stated, and what was found where nothing was."""
    roles = {role.role: role.column for role in found.roles if role.reason != "of each recording"}
    period = request.read_options(request.task).period or found.period
    return {
        "label_from": request.label_from,
        **{f"{name}_column": roles.get(name) for name in ("label", "series", "group")},
        "time_column": next((r.column for r in found.roles if r.role == "time"), None),
        "time_unit": request.time_unit,
        "encoding": request.encoding,
        "window": request.window,
        "stride": request.stride,
        "channels": [channel.name for channel in found.channels] or None,
        "period": None if period is None else float(f"{period:.9g}"),
    }


def _show(found: Inspection) -> None:
    shortest, longest = found.steps
    fields: dict[str, object] = {
        "data": f"{found.path}: {len(found.pieces)} recordings in {found.files} file(s)",
        "steps": f"{shortest:,}" if shortest == longest else f"{shortest:,} to {longest:,}",
    }
    if found.period:
        fields["rate"] = f"{1 / found.period:.4g} Hz, a step every {found.period:.4g} s"
    fields["time"] = found.time or "none: rows are steps"
    for i, (form, count) in enumerate(found.forms.items()):
        fields["text" if not i else f"text {i + 1}"] = f"{form} ({count} file{'s' if count != 1 else ''})"
    print_fields(fields)
    if found.roles:
        print()
        print_table(["column", "role", "why"], [[r.column, r.role, r.reason] for r in found.roles])
    print()
    print_table(
        ["channel", "unit", "lowest", "mean", "highest", "missing"],
        [
            [c.name, c.unit or "", f"{c.low:.4g}", f"{c.mean:.4g}", f"{c.high:.4g}", f"{c.missing:.1%}"]
            for c in found.channels
        ],
    )
    _show_classes(found)
    print()
    _show_findings(found)
    for text in found.notes:
        note(text)


def _show_findings(found: Inspection) -> None:
    kinds: dict[str, list[Finding]] = {}
    for finding in found.findings:
        kinds.setdefault(f"{finding.kind}{', stops training' if finding.stops else ''}", []).append(finding)
    for kind, same in kinds.items():
        print(f"{kind}:")
        for finding in same[:MOST_SHOWN]:
            print(f"  {escape_terminal(finding)}")
        if len(same) > MOST_SHOWN:
            print(f"  and {len(same) - MOST_SHOWN:,} more; --json lists all")
    count = len(found.findings)
    print(f"{count} finding{'s' if count != 1 else ''}" if count else "nothing looks wrong")


def _show_classes(found: Inspection) -> None:
    groups = sorted({group for counts in found.classes.values() for group in counts})
    shown = groups if len(groups) <= MOST_GROUPS else []
    rows = [
        [label or "(no label)", sum(counts.values()), *(counts.get(group, 0) for group in shown if group)]
        for label, counts in found.classes.items()
    ]
    print()
    print_table(["class", "recordings", *(group for group in shown if group)], rows)
    if len(groups) > MOST_GROUPS:
        print(f"in {len(groups)} groups")
