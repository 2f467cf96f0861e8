"""The attention benchmark as small multiples: one panel a shape of heads, one line a density."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any


def plot(results: list[dict[str, Any]], threads: int, title: str, path: Path) -> None:
    """Writes the speed-up of float32 over fused dense attention by length; cases without parity are left out.

    Args:
        results: as `attention_measure.measure_all` gives them.
        threads: which of them.
        title: stands above all panels.
        path: of the picture.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.ticker import NullFormatter, ScalarFormatter

    points: dict[tuple[int, int], dict[float, list[tuple[int, dict[str, float]]]]] = {}
    for result in results:
        case = result["case"]
        speed_up = result["rivals"]["fused dense"].get("speed_up")
        if case["threads"] == threads and speed_up:
            panel = points.setdefault((case["heads"], case["head_size"]), {})
            panel.setdefault(case["density"], []).append((case["tokens"], speed_up))
    rows = max(1, math.ceil(len(points) / 2))
    chart, grid = pyplot.subplots(
        rows, 2, figsize=(10, 1 + 3.5 * rows), sharex=True, sharey=True, squeeze=False, layout="constrained"
    )
    for axes, (heads, size) in zip(grid.flat, sorted(points), strict=False):
        for density, line in sorted(points[heads, size].items()):
            line.sort(key=lambda point: point[0])
            tokens = [n for n, _ in line]
            axes.plot(
                tokens, [s["value"] for _, s in line], marker="o", label=f"{density * 100:g} % of the blocks"
            )
            axes.fill_between(tokens, [s["low"] for _, s in line], [s["high"] for _, s in line], alpha=0.2)
        axes.axhline(1.0, color="gray", linestyle="--", label="fused dense")
        axes.set(xscale="log", yscale="log", title=f"{heads} heads of {size}")
        axes.set_xticks(sorted({r["case"]["tokens"] for r in results}))
        axes.set_yticks([0.5, 1, 2, 4, 8, 16])
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(ScalarFormatter())
            axis.set_minor_formatter(NullFormatter())
        axes.grid(alpha=0.3)
    for axes in grid.flat[len(points) :]:
        axes.set_visible(False)
    for axes in grid[-1]:
        axes.set_xlabel("tokens")
    for axes in grid[:, 0]:
        axes.set_ylabel("times faster than fused dense")
    handles, labels = grid[0, 0].get_legend_handles_labels()
    chart.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    chart.suptitle(title)
    chart.savefig(path, dpi=120)
    pyplot.close(chart)
