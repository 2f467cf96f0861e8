"""The README's picture: milliseconds per window by length, from the committed results of `make prove-target`.

`python -m benchmarks.target.picture` writes docs/files/speed.svg.
"""

from __future__ import annotations

import json
import re

from benchmarks.support.settings import COMMITTED
from tests.support.paths import ROOT

RESULTS = COMMITTED / "prove_target.json"
PICTURE = ROOT / "docs" / "files" / "speed.svg"
TOKENS = (256, 2048, 4096)
# Name of the line that holds the rival's time in its note, as "... against MS".
RIVALS = {
    "dense float32, fused attention": "int8 sparse over dense float32, {} tokens, 1 thread",
    "dense int8": "int8 sparse over dense int8, {} tokens, 1 thread",
}
COLORS = ("#9aa5b1", "#5b7083", "#d9480f")


def read_times() -> tuple[dict[str, list[float]], str]:
    """Milliseconds per window by model, in the order of `TOKENS`, and the processor they were measured on."""
    stored = json.loads(RESULTS.read_text(encoding="utf-8"))
    notes = {line["name"]: line["note"] for line in stored["lines"]}
    times: dict[str, list[float]] = {name: [] for name in RIVALS}
    times["sparse int8 (ours)"] = []
    for tokens in TOKENS:
        for name, line in RIVALS.items():
            ours, rival = re.findall(r"([\d.]+) ms against ([\d.]+)", notes[line.format(tokens)])[0]
            times[name].append(float(rival))
        times["sparse int8 (ours)"].append(float(ours))
    return times, stored["machine"]["cpu"]


def main() -> None:
    """Draws one group of bars per length."""
    import matplotlib

    matplotlib.use("Agg")
    # The same picture for the same figures: no random identifiers, no date.
    matplotlib.rcParams["svg.hashsalt"] = "edgesparse"
    from matplotlib import pyplot

    times, processor = read_times()
    chart, axes = pyplot.subplots(figsize=(8, 3.2), layout="constrained")
    for i, ((name, values), color) in enumerate(zip(times.items(), COLORS, strict=True)):
        places = [group + (i - 1) * 0.27 for group in range(len(TOKENS))]
        bars = axes.bar(places, values, width=0.25, label=name, color=color)
        axes.bar_label(bars, fmt="%.3g", padding=2, fontsize=9)
    axes.set_yscale("log")
    axes.set_ylim(1, 1500)
    axes.set_xticks(range(len(TOKENS)), [f"{tokens:,} tokens" for tokens in TOKENS])
    axes.set_ylabel("ms per window")
    axes.set_title(f"Preset small, a quarter of the blocks, one thread, {processor}", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="upper left")
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    chart.savefig(PICTURE, metadata={"Date": None})
    print(PICTURE.relative_to(ROOT))


if __name__ == "__main__":
    main()
