"""Plots as inline SVG: a curve, a histogram, bars. No package, no external file."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from edgesparse_runtime.measure.report.page_text import page_text

# Drawn widths in CSS pixels: of a page, and of a phone.
WIDE, NARROW = 820, 330
HEIGHT = 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 16, 14, 42
# A dot per call beyond this many is a blot.
_MOST_DOTS = 600
Point = tuple[float, float]


def curves(
    series: Mapping[str, Sequence[Point]],
    *,
    x_label: str,
    y_label: str,
    logarithmic: bool = False,
    marks: bool = True,
    from_zero: bool = True,
    width: int = WIDE,
) -> str:
    """One line per name through its points; `logarithmic` holds for both axes, `from_zero` for the y axis.

    With `marks` the x axis is labeled at the points, which are few and chosen.
    """
    points = [p for line in series.values() for p in line]
    x_scale = _Scale([p[0] for p in points], _LEFT, width - _RIGHT, logarithmic, False)
    y_scale = _Scale([p[1] for p in points], HEIGHT - _BOTTOM, _TOP, logarithmic, from_zero)
    if marks:
        x_scale.ticks = sorted({p[0] for p in points})
    parts = [_axes(x_scale, y_scale, x_label, y_label, width)]
    for i, (name, line) in enumerate(series.items()):
        path = " ".join(f"{x_scale(x):.1f},{y_scale(y):.1f}" for x, y in line)
        parts.append(f'<polyline class="line c{i % 4}" points="{path}"/>')
        if marks:
            parts += [
                f'<circle class="mark c{i % 4}" cx="{x_scale(x):.1f}" cy="{y_scale(y):.1f}" r="4">'
                f"<title>{page_text(name)}: {_short(x)} → {_short(y)}</title></circle>"
                for x, y in line
            ]
    return _svg(parts, y_label, width) + _legend(list(series))


def scatter(points: Sequence[Point], *, x_label: str, y_label: str, width: int = WIDE) -> str:
    """One dot per point; of very many, an even sample and all that stand out."""
    x_scale = _Scale([p[0] for p in points], _LEFT, width - _RIGHT, False, False)
    y_scale = _Scale([p[1] for p in points], HEIGHT - _BOTTOM, _TOP, False, True)
    step = -(-len(points) // _MOST_DOTS) if points else 1
    high = sorted(y for _, y in points)[-max(1, len(points) // 50) :][0] if points else 0.0
    kept = [(x, y) for i, (x, y) in enumerate(points) if i % step == 0 or y >= high]
    dots = [f'<circle class="mark c0" cx="{x_scale(x):.1f}" cy="{y_scale(y):.1f}" r="1.3"/>' for x, y in kept]
    return _svg([_axes(x_scale, y_scale, x_label, y_label, width), *dots], y_label, width)


def histogram(values: Sequence[float], lines: Mapping[str, float], *, x_label: str, width: int = WIDE) -> str:
    """How often each value came, up to just beyond the last of the named `lines`; the rest is counted."""
    low, high = min(values), max(max(lines.values()) * 1.05, min(values) * 1.001)
    count = 48
    bin_width = (high - low) / count or 1.0
    heights = [0] * count
    beyond = 0
    for value in values:
        i = int((value - low) / bin_width)
        if i < count:
            heights[i] += 1
        else:
            beyond += 1
    x_scale = _Scale([low, high], _LEFT, width - _RIGHT, False, False)
    y_scale = _Scale([0, max(heights)], HEIGHT - _BOTTOM, _TOP + 14, False, True)
    parts = [_axes(x_scale, y_scale, x_label, "calls", width)]
    for i, n in enumerate(heights):
        left, right = x_scale(low + i * bin_width), x_scale(low + (i + 1) * bin_width)
        top, wide = y_scale(n), max(right - left - 1, 1)
        title = f"{_calls(n)} from {low + i * bin_width:.3g} to {low + (i + 1) * bin_width:.3g}"
        parts.append(
            f'<rect class="bar c0" x="{left:.1f}" y="{top:.1f}" width="{wide:.1f}" '
            f'height="{y_scale(0) - top:.1f}"><title>{title}</title></rect>'
        )
    parts += _rules(lines, x_scale)
    note = f'<p class="note">Beyond the right edge: {_calls(beyond)}.</p>' if beyond else ""
    return _svg(parts, "calls", width) + note


def _calls(count: int) -> str:
    return f"{count} call{'' if count == 1 else 's'}"


def _rules(lines: Mapping[str, float], x_scale: _Scale) -> list[str]:
    """Named vertical lines; names that are close to each other stand on different heights."""
    parts, last, row = [], -99.0, 0
    for name, value in sorted(lines.items(), key=lambda item: item[1]):
        x = x_scale(value)
        row = (row + 1) % 2 if x - last < 30 else 0
        parts.append(f'<line class="rule" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{HEIGHT - _BOTTOM}"/>')
        parts.append(
            f'<text class="small" x="{x + 3:.1f}" y="{_TOP + 8 + 14 * row}">{page_text(name)}</text>'
        )
        last = x
    return parts


def bars(rows: Sequence[tuple[str, float, str]], *, unit: str, width: int = WIDE) -> str:
    """Horizontal bars: a name, a value, and a text; on a narrow page the texts are above the bar."""
    is_narrow = width < WIDE // 2
    step, left = (38, 0) if is_narrow else (24, 250)
    room = width if is_narrow else width - left - 190
    most = max((value for _, value, _ in rows), default=1.0) or 1.0
    parts = []
    for i, (name, value, text) in enumerate(rows):
        y, length = 4 + i * step, max(room * value / most, 1.0)
        title = f"<title>{page_text(name)}: {value:.4g} {page_text(unit)}</title>"
        if is_narrow:
            short = text.split(", density")[0]
            parts.append(
                f'<text x="0" y="{y + 11}">{page_text(_shorten(name, 24))}</text>'
                f'<text class="small end" x="{width}" y="{y + 11}">{page_text(short)}</text>'
                f'<rect class="bar c0" x="0" y="{y + 17}" width="{length:.1f}" height="12">{title}</rect>'
            )
        else:
            parts.append(
                f'<text class="name" x="{left - 8}" y="{y + 15}">{page_text(_shorten(name, 36))}</text>'
                f'<rect class="bar c0" x="{left}" y="{y + 3}" width="{length:.1f}" height="16">{title}</rect>'
                f'<text class="small" x="{left + length + 6:.1f}" y="{y + 15}">{page_text(text)}</text>'
            )
    height = step * len(rows) + 8
    return f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="bars">' + "".join(parts) + "</svg>"


def _shorten(name: str, most: int) -> str:
    """The end of a long module name, which is what tells it from others."""
    return name if len(name) <= most else "…" + name[1 - most :]


class _Scale:
    """Values to positions, with round ticks."""

    def __init__(
        self, values: Sequence[float], start: float, end: float, logarithmic: bool, zero: bool
    ) -> None:
        low, high = min(values, default=0.0), max(values, default=1.0)
        self.logarithmic = logarithmic and low > 0
        if self.logarithmic:
            low, high = low / 1.15, high * 1.15
            self.ticks = _log_ticks(low, high)
        else:
            low = 0.0 if zero else low
            if high <= low:
                low, high = (low - 0.5, high + 0.5) if not zero else (0.0, max(high, 1.0))
            self.ticks = _ticks(low, high)
            high = max(high, self.ticks[-1]) if zero else high
        self._low, self._high, self._start, self._end = low, high, start, end

    def __call__(self, value: float) -> float:
        low, high = self._low, self._high
        if self.logarithmic:
            value, low, high = math.log(max(value, 1e-12)), math.log(low), math.log(high)
        return self._start + (value - low) / (high - low) * (self._end - self._start)


def _ticks(low: float, high: float) -> list[float]:
    step = 10.0 ** math.floor(math.log10((high - low) / 4))
    step *= next(m for m in (1, 2, 2.5, 5, 10) if (high - low) / (step * m) <= 5)
    first = math.ceil(low / step - 1e-9)
    return [
        round(i * step, 12) for i in range(first, math.ceil(high / step + 1e-9) + 1) if i * step <= high * 1.2
    ]


def _log_ticks(low: float, high: float) -> list[float]:
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    fine = [m * 10.0**p for p in powers for m in (1, 2, 5)]
    return [t for t in fine if low <= t <= high] or [low, high]


def _axes(x_scale: _Scale, y_scale: _Scale, x_label: str, y_label: str, width: int) -> str:
    parts = []
    for tick in y_scale.ticks:
        y = y_scale(tick)
        if _TOP - 1 <= y <= HEIGHT - _BOTTOM + 1:
            parts.append(f'<line class="grid" x1="{_LEFT}" x2="{width - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
            parts.append(f'<text class="tick end" x="{_LEFT - 6}" y="{y + 4:.1f}">{_short(tick)}</text>')
    last = -99.0
    for tick in x_scale.ticks:
        x = x_scale(tick)
        # On a narrow page labels would run into each other.
        if x - last < 34:
            continue
        last = x
        if _LEFT - 1 <= x <= width - _RIGHT + 1:
            parts.append(
                f'<text class="tick mid" x="{x:.1f}" y="{HEIGHT - _BOTTOM + 16}">{_short(tick)}</text>'
            )
    middle = (_TOP + HEIGHT - _BOTTOM) / 2
    parts.append(
        f'<line class="axis" x1="{_LEFT}" x2="{width - _RIGHT}" y1="{HEIGHT - _BOTTOM}" '
        f'y2="{HEIGHT - _BOTTOM}"/>'
        f'<text class="label mid" x="{(_LEFT + width - _RIGHT) / 2}" y="{HEIGHT - 6}">'
        f"{page_text(x_label)}</text>"
        f'<text class="label mid" transform="translate(14 {middle}) rotate(-90)">{page_text(y_label)}</text>'
    )
    return "".join(parts)


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _svg(parts: list[str], label: str, width: int) -> str:
    inner = "".join(parts)
    return f'<svg viewBox="0 0 {width} {HEIGHT}" role="img" aria-label="{page_text(label)}">{inner}</svg>'


def _legend(names: list[str]) -> str:
    if len(names) < 2:
        return ""
    keys = "".join(f'<span class="key c{i % 4}">{page_text(name)}</span>' for i, name in enumerate(names))
    return f'<p class="legend">{keys}</p>'
