"""Pictures of an explanation as inline SVG. Every picture's figures are in a table beside it too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgesparse_runtime.arrays import FloatArray
from edgesparse_runtime.measure.report.page_text import page_text

_WIDTH, _SIGNAL, _BARS = 800, 90, 60
_MOST_POINTS, _MOST_BLOCKS = 400, 48


def draw_signal(row_T: FloatArray, segments: Sequence[dict[str, Any]], label: str) -> str:
    """One channel as a line, over the segments shaded by their influence."""
    steps = len(row_T)
    most = max((abs(s["influence"]) for s in segments), default=0.0) or 1.0
    parts = [_shade(s, steps, most) for s in segments]
    low, high = _ends(row_T)
    size = (high - low) or 1.0
    runs: list[list[str]] = [[]]
    for i, value in _points(row_T):
        if np.isnan(value):
            runs.append([])
            continue
        x, y = _WIDTH * (i + 0.5) / steps, _SIGNAL - 4 - (_SIGNAL - 8) * (value - low) / size
        runs[-1].append(f"{x:.1f},{y:.1f}")
    parts += [f'<polyline class="signal" points="{" ".join(run)}"/>' for run in runs if len(run) > 1]
    return _picture(parts, _SIGNAL, label)


def draw_bars(values: Sequence[float], label: str, edges: Sequence[float] | None = None) -> str:
    """Signed bars side by side: up speaks for the decision, down against it."""
    count, most = len(values), max(map(abs, values), default=0.0) or 1.0
    edges = edges or [i / count for i in range(count + 1)]
    middle = _BARS / 2
    parts = [f'<line class="axis" x1="0" x2="{_WIDTH}" y1="{middle}" y2="{middle}"/>']
    for i, value in enumerate(values):
        height = (middle - 2) * abs(value) / most
        x, wide = _WIDTH * edges[i], _WIDTH * (edges[i + 1] - edges[i])
        kind, y = ("for", middle - height) if value >= 0 else ("against", middle)
        parts.append(
            f'<rect class="{kind}" x="{x + 1:.1f}" y="{y:.1f}" width="{max(wide - 2, 1):.1f}" '
            f'height="{height:.1f}"/>'
        )
    return _picture(parts, _BARS, label)


def draw_map(layer: dict[str, Any], label: str) -> str:
    """Which query block attended to which key block, by how many heads; many blocks are drawn together."""
    count = len(layer["attended"])
    shown = min(count, _MOST_BLOCKS)
    heads = len(layer["heads"])
    kept = np.zeros((count, count))
    for head in layer["heads"]:
        for query in head["queries"]:
            for block in query["kept"]:
                kept[query["block"], block["block"]] += 1 / heads
    borders = np.linspace(0, count, shown + 1).astype(int)
    starts = borders[:-1]
    sums = np.add.reduceat(np.add.reduceat(kept, starts, axis=0), starts, axis=1)
    sizes = np.diff(borders)
    cells = sums / np.outer(sizes, sizes)
    size = 300 / shown
    parts = ['<rect class="back" x="0" y="0" width="300" height="300"/>']
    for i, j in zip(*np.nonzero(cells), strict=True):
        parts.append(
            f'<rect class="cell" x="{j * size:.2f}" y="{i * size:.2f}" width="{size:.2f}" '
            f'height="{size:.2f}" fill-opacity="{cells[i, j]:.2f}"/>'
        )
    return (
        f'<svg class="map" viewBox="0 0 300 300" role="img" aria-label="{page_text(label)}">'
        f"{''.join(parts)}</svg>"
    )


def _shade(segment: dict[str, Any], steps: int, most: float) -> str:
    x = _WIDTH * segment["start"] / steps
    wide = _WIDTH * segment["end"] / steps - x
    kind = "for" if segment["influence"] >= 0 else "against"
    strength = abs(segment["influence"]) / most
    return (
        f'<rect class="{kind}" x="{x:.1f}" y="0" width="{wide:.1f}" height="{_SIGNAL}" '
        f'fill-opacity="{0.55 * strength:.2f}"/>'
    )


def _points(row_T: FloatArray) -> list[tuple[float, float]]:
    """Every value, or of a long row the smallest and largest of each stretch."""
    if len(row_T) <= _MOST_POINTS:
        return [(float(i), float(v)) for i, v in enumerate(row_T)]
    found: list[tuple[float, float]] = []
    for part in np.array_split(np.arange(len(row_T)), _MOST_POINTS // 2):
        values = row_T[part]
        if np.isnan(values).all():
            found.append((float(part[0]), np.nan))
            continue
        ends = sorted((int(np.nanargmin(values)), int(np.nanargmax(values))))
        found += [(float(part[k]), float(values[k])) for k in ends]
    return found


def _ends(row_T: FloatArray) -> tuple[float, float]:
    seen = row_T[~np.isnan(row_T)]
    return (float(seen.min()), float(seen.max())) if len(seen) else (0.0, 0.0)


def _picture(parts: list[str], height: int, label: str) -> str:
    return (
        f'<svg viewBox="0 0 {_WIDTH} {height}" preserveAspectRatio="none" style="height:{height}px" '
        f'role="img" aria-label="{page_text(label)}">{"".join(parts)}</svg>'
    )
