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
        f"- compute: {compute['attention_share']:.1%} of dense attention, "
        f"{compute['model_share']:.1%} of the dense model (measured on {compute['measured_on']} windows)",
    ]
    for name, metric in metrics.items():
        lines.append(f"- {metric['name']} on the {name} series: {with_interval(metric)}")
    if fields["classes"]:
        lines += ["", "Classes: " + ", ".join(fields["classes"]) + "."]
    lines += [
        "",
        "Accuracy on the series a model was trained on says nothing about new ones: measure on your own with "
        "`edgesparse evaluate`. Scores are probabilities of the training classes; a window of anything else "
        "is given one of them too.",
        "",
    ]
    return "\n".join(lines)
