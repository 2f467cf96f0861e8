"""The model card: what a person should know before trusting the bundle."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from edgesparse_runtime.data.column_names import with_unit
from edgesparse_runtime.data.escape import escape_terminal
from edgesparse_runtime.data.series_set import SeriesSet
from edgesparse_runtime.evaluation.metrics import with_interval

# Of the table by group.
MOST_ROWS, MOST_COLUMNS = 40, 12


def write_card(fields: dict[str, Any], data: SeriesSet | None = None) -> str:
    """Markdown from the manifest's fields.

    Args:
        data: what was given at export; the card tells its groups and classes.
    """
    compute, metrics = fields["compute"], fields["metrics"]
    lines = [
        f"# {fields['name']}",
        "",
        f"{fields['task'].capitalize()} of windows with {len(fields['channels'])} channel(s), trained on "
        f"{fields['training']['series']} series of {escape_terminal(fields['training']['source'])} "
        f"({_steps(fields['input'])}).",
        "",
        f"- attention: {fields['attention']['mode']}, {fields['parameters']:,} trained weights",
    ]
    if fields["attention"]["mode"] != "none":
        lines.append(
            f"- compute: {compute['attention_share']:.1%} of dense attention, "
            f"{compute['model_share']:.1%} of the dense model (measured on {compute['measured_on']} windows)"
        )
    lines += _measured(fields, metrics)
    if fields["classes"]:
        lines += ["", "Classes: " + ", ".join(fields["classes"]) + "."]
    lines += ["", "## Intended use", "", *_intended(fields)]
    if data is not None and len(data):
        lines += ["", "## Data by group", "", *_groups(data, fields)]
    lines += [
        "",
        "## Limits",
        "",
        "- Accuracy on the training series tells nothing about new ones: measure on your own with "
        "`edgesparse evaluate`.",
        f"- Windows of {_steps(fields['input'])} were trained on; "
        "others are scored too, and nothing is known of those scores.",
        "- A new machine, sensor, mounting or rate is new data: measure before use, and watch it with "
        "`edgesparse monitor`.",
        "- Not for decisions about people's health or safety unless you have validated it for them.",
        "",
        "## Unknown windows",
        "",
        *_unknown_windows(fields),
        "",
    ]
    return "\n".join(lines)


def _steps(facts: dict[str, Any]) -> str:
    """Lengths of the training windows."""
    shortest, longest = facts["shortest"], facts["longest"]
    return f"{shortest} steps" if shortest == longest else f"{shortest} to {longest} steps"


def _intended(fields: dict[str, Any]) -> list[str]:
    """What goes in and what comes out, and for which data that holds."""
    channels = (with_unit(c["name"], c.get("unit")) for c in fields["channels"])
    period = fields["input"].get("period")
    rate = f"{1 / period:.6g} samples per second" if period else "the rate of the training data (not stated)"
    outcome = {
        "classification": f"one of {len(fields['classes'])} classes, with a probability each",
        "regression": "numbers in the target's own unit",
        "forecasting": f"the next steps of {fields.get('forecast', {}).get('channel', 'a channel')}",
    }.get(fields["task"], "the model's main output")
    return [
        f"Input: {escape_terminal(', '.join(channels))}, at {rate}. Output: {outcome}. Meant for windows "
        "like those it was trained on: the same sensors and units, cut the same way."
    ]


def _groups(data: SeriesSet, fields: dict[str, Any]) -> list[str]:
    """Windows given at export, by group and class; one sentence where there are no groups."""
    labels = [str(label) for label in data.labels] if data.labels is not None and fields["classes"] else []
    if data.groups is None:
        counted = Counter(labels)
        by_class = ", ".join(f"{escape_terminal(name)} {counted[name]}" for name in sorted(counted))
        return [
            f"{len(data)} windows were given at export{f' ({by_class})' if by_class else ''}. They name no "
            "groups (machine, run or person), so nothing is known of how the model does on a new one."
        ]
    groups = [str(group) for group in data.groups]
    names = sorted(set(labels))[:MOST_COLUMNS]
    rows = [f"| {' | '.join(map(escape_terminal, row))} |" for row in _rows(groups, labels, names)]
    head = " | ".join(map(escape_terminal, ["group", "windows", *names]))
    hidden = len(set(groups)) - MOST_ROWS
    more = ["", f"{hidden} more groups are not shown."] if hidden > 0 else []
    return [f"| {head} |", "|" + "---|" * (2 + len(names)), *rows, *more]


def _rows(groups: list[str], labels: list[str], names: list[str]) -> Iterator[list[str]]:
    """Group, windows, and windows of each class."""
    for group in sorted(set(groups))[:MOST_ROWS]:
        inside = [i for i, name in enumerate(groups) if name == group]
        counted = Counter(labels[i] for i in inside) if labels else Counter()
        yield [group, str(len(inside)), *(str(counted[name]) for name in names)]


def _unknown_windows(fields: dict[str, Any]) -> list[str]:
    if fields["task"] != "classification":
        return ["A window unlike the training windows gets an output like any other."]
    return [
        "Scores are probabilities of the training classes; a window of anything else gets one of them too"
        f"{_unknown(fields)}."
    ]


def _unknown(fields: dict[str, Any]) -> str:
    found = fields.get("unknown")
    if not found:
        return ""
    share = f", as {found['refused']:.0%} of good windows are" if "refused" in found else ""
    return f", and is called `unknown` where it is unlike all training windows{share}"


def _measured(fields: dict[str, Any], metrics: dict[str, Any]) -> list[str]:
    """What is known of new series first, training series last."""
    lines = []
    if found := fields.get("cross_validation"):
        for group, metric in found["groups"].items():
            lines.append(
                f"- {metric['name']} on group {group}, by a model not trained on it: {with_interval(metric)}"
            )
    if skip := fields.get("skip"):
        found = skip["left_out"]
        alone = "" if fields["attention"]["mode"] == "none" else ", the skip alone"
        lines.append(
            f"- {found['name']}, leave-one-out over the training series{alone}: {with_interval(found)}"
        )
    if held := metrics.get("validation"):
        groups = ", ".join((fields.get("held_out") or {}).get("groups", []))
        which = f" (groups {groups})" if groups else ""
        lines.append(f"- {held['name']} on held-out series{which}: {with_interval(held)}")
    if not lines:
        lines.append("- on new series: not measured, nothing was held out")
    if fitted := metrics.get("training"):
        lines.append(f"- {fitted['name']} on the training series: {with_interval(fitted)}")
    return lines
