"""The model card: what a person should know before trusting the bundle."""

from __future__ import annotations

from typing import Any

from edgesparse_runtime.data.escape import escape_terminal
from edgesparse_runtime.evaluation.metrics import with_interval


def write_card(fields: dict[str, Any]) -> str:
    """Markdown from the manifest's fields."""
    compute, metrics = fields["compute"], fields["metrics"]
    lines = [
        f"# {fields['name']}",
        "",
        f"{fields['task'].capitalize()} of windows with {len(fields['channels'])} channel(s), trained on "
        f"{fields['training']['series']} series of {escape_terminal(fields['training']['source'])} "
        f"({fields['input']['shortest']} to {fields['input']['longest']} steps).",
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
    lines += [
        "",
        "Accuracy on the training series tells nothing about new ones: measure on your own with "
        "`edgesparse evaluate`. Scores are probabilities of the training classes; a window of anything else "
        f"gets one of them too{_unknown(fields)}.",
        "",
    ]
    return "\n".join(lines)


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
