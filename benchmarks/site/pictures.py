"""Two pictures of one head's selection in a real window, as SVG: `docs/concepts/selection.md`.

The map shows which blocks each query block attends to and why. The steps show one query block: the router's
shares from the largest on, and where the selection ends.
"""

from __future__ import annotations

from html import escape

import numpy as np

from edgesparse_runtime.explain.routing import LayerRouting

# Legible on light and dark pages; kinds differ in lightness too.
COLORS = {"diagonal": "#16395a", "window": "#2f6aa0", "share": "#e07b39", "summary": "#d5d9e0"}
NAMES = {
    "diagonal": "diagonal block, always kept",
    "window": "within the window, always kept",
    "share": "kept for its share",
    "summary": "dropped: one summary token",
}
CELL = 26
# Room for the titles.
LEAST_WIDTH = 560
LEFT, TOP = 60, 44


def kind_of(layer: LayerRouting, head: int, query: int, key: int) -> str:
    """Why a block is kept, or `summary`."""
    return layer.reason(query, key) if layer.kept[head, query, key] else "summary"


def draw_map(layer: LayerRouting, head: int, seconds: float) -> str:
    """A square per pair of query and key block, with the legend below."""
    queries, keys = layer.kept.shape[1:]
    side = CELL * keys
    cells = [
        f'<rect x="{LEFT + CELL * key}" y="{TOP + CELL * query}" width="{CELL - 1}" height="{CELL - 1}" '
        f'fill="{COLORS[kind_of(layer, head, query, key)]}"/>'
        for query in range(queries)
        for key in range(keys)
    ]
    bottom = TOP + CELL * queries
    kinds = {kind_of(layer, head, query, key) for query in range(queries) for key in range(keys)}
    used = [kind for kind in COLORS if kind in kinds]
    legend = [
        f'<rect x="{LEFT}" y="{bottom + 34 + 20 * i}" width="12" height="12" fill="{COLORS[kind]}"/>'
        + _text(LEFT + 20, bottom + 44 + 20 * i, NAMES[kind])
        for i, kind in enumerate(used)
    ]
    density = layer.density[head]
    parts = [
        _text(LEFT, 20, f"attended to: {density:.0%} of the block pairs", size=14, weight=700),
        _text(LEFT, TOP - 8, f"key blocks: 0 to {seconds:g} s"),
        f'<g transform="rotate(-90 {LEFT - 10} {bottom})">{_text(LEFT - 10, bottom, "query blocks")}</g>',
        *cells,
        *legend,
    ]
    return _document(LEFT + side + 20, bottom + 40 + 20 * len(used), "Which blocks a head attends to", parts)


def draw_steps(layer: LayerRouting, head: int, query: int) -> str:
    """Bars of the router's shares of one query block by falling share, kept ones in color."""
    shares = layer.shares[head, query]
    order = np.argsort(-shares, kind="stable")
    width, height = 26, 180
    top = float(shares[order[0]])
    bars = []
    for place, key in enumerate(order):
        kind = kind_of(layer, head, query, int(key))
        tall = height * float(shares[key]) / top
        x, y = LEFT + width * place, TOP + height - tall
        box = f'x="{x}" y="{y:.1f}" width="{width - 4}" height="{max(tall, 1):.1f}"'
        bars.append(f'<rect {box} fill="{COLORS[kind]}"/>')
        bars.append(_text(x + (width - 4) / 2, TOP + height + 14, str(key), anchor="middle"))
    kept = float(shares[layer.kept[head, query]].sum())
    title = f"query block {query}: kept blocks hold {kept:.0%} of the router's mass"
    parts = [
        _text(LEFT, 20, title, size=14, weight=700),
        _text(LEFT - 8, TOP + 8, f"{top:.0%}", anchor="end"),
        _text(LEFT - 8, TOP + height, "0", anchor="end"),
        *bars,
        _text(LEFT, TOP + height + 34, "key blocks by falling share"),
    ]
    return _document(LEFT + width * len(order) + 20, TOP + height + 46, "One query block's shares", parts)


def _text(x: float, y: float, words: str, *, anchor: str = "start", size: int = 12, weight: int = 400) -> str:
    return (
        f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" font-size="{size}" font-weight="{weight}">'
        f"{escape(words)}</text>"
    )


def _document(width: float, height: float, title: str, parts: list[str]) -> str:
    width = max(width, LEAST_WIDTH)
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}" '
            f'height="{height:g}" role="img" font-family="sans-serif" fill="#1c1c22">',
            f"<title>{escape(title)}</title>",
            f'<rect width="{width:g}" height="{height:g}" fill="#ffffff"/>',
            *parts,
            "</svg>\n",
        ]
    )
