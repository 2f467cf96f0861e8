"""Plots as inline SVG: a curve, a histogram, bars. No package, no external file."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

WIDTH, HEIGHT = 640, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 16, 14, 42
Point = tuple[float, float]


def curves(
    series: Mapping[str, Sequence[Point]],
    *,
    x_label: str,
    y_label: str,
    logarithmic: bool = False,
    marks: bool = True,
    dots: bool = False,
    from_zero: bool = True,
) -> str:
    """One line a name through its points; with `logarithmic` on both axes, with `dots` no line.

    With `marks` the x axis is labeled at the points, which are few and chosen.
    """
    points = [p for line in series.values() for p in line]
    x_scale = _Scale([p[0] for p in points], _LEFT, WIDTH - _RIGHT, logarithmic, False)
    y_scale = _Scale([p[1] for p in points], HEIGHT - _BOTTOM, _TOP, logarithmic, from_zero)
    if marks:
        x_scale.ticks = sorted({p[0] for p in points})
    parts = [_axes(x_scale, y_scale, x_label, y_label)]
    for i, (name, line) in enumerate(series.items()):
        if dots:
            parts += [
                f'<circle class="mark c{i % 4}" cx="{x_scale(x):.1f}" cy="{y_scale(y):.1f}" r="1.3"/>'
                for x, y in line
            ]
            continue
        path = " ".join(f"{x_scale(x):.1f},{y_scale(y):.1f}" for x, y in line)
        parts.append(f'<polyline class="line c{i % 4}" points="{path}"/>')
        if marks:
            parts += [
                f'<circle class="mark c{i % 4}" cx="{x_scale(x):.1f}" cy="{y_scale(y):.1f}" r="4">'
                f"<title>{escape(name)}: {_short(x)} → {_short(y)}</title></circle>"
                for x, y in line
            ]
    return _svg(parts, y_label) + _legend(list(series))


def histogram(values: Sequence[float], lines: dict[str, float], *, x_label: str) -> str:
    """How often each value came, up to just beyond the last of the named `lines`; the rest is counted."""
    low, high = min(values), max(max(lines.values()) * 1.05, min(values) * 1.001)
    count = 48
    width = (high - low) / count or 1.0
    heights = [0] * count
    beyond = 0
    for value in values:
        i = int((value - low) / width)
        if i < count:
            heights[i] += 1
        else:
            beyond += 1
    x_scale = _Scale([low, high], _LEFT, WIDTH - _RIGHT, False, False)
    y_scale = _Scale([0, max(heights)], HEIGHT - _BOTTOM, _TOP + 14, False, True)
    parts = [_axes(x_scale, y_scale, x_label, "calls")]
    for i, n in enumerate(heights):
        left, right = x_scale(low + i * width), x_scale(low + (i + 1) * width)
        top, wide = y_scale(n), max(right - left - 1, 1)
        title = f"{n} calls from {low + i * width:.3g} to {low + (i + 1) * width:.3g}"
        parts.append(
            f'<rect class="bar c0" x="{left:.1f}" y="{top:.1f}" width="{wide:.1f}" '
            f'height="{y_scale(0) - top:.1f}"><title>{title}</title></rect>'
        )
    last = -99.0
    for name, value in sorted(lines.items(), key=lambda item: item[1]):
        x = x_scale(value)
        parts.append(f'<line class="rule" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{HEIGHT - _BOTTOM}"/>')
        # Two names side by side must not cover each other.
        y = _TOP + (8 if x - last > 30 else 22)
        parts.append(f'<text class="small" x="{x + 3:.1f}" y="{y}">{escape(name)}</text>')
        last = x
    note = f'<p class="note">{beyond} calls lie beyond the right edge.</p>' if beyond else ""
    return _svg(parts, "calls") + note


def bars(rows: Sequence[tuple[str, float, str]], *, unit: str) -> str:
    """Horizontal bars: name, value, and what stands beside it."""
    step, left = 24, 250
    most = max((value for _, value, _ in rows), default=1.0) or 1.0
    height = step * len(rows) + 8
    parts = []
    for i, (name, value, beside) in enumerate(rows):
        y, length = 4 + i * step, (WIDTH + 140 - left - 170) * value / most
        parts.append(
            f'<text class="name" x="{left - 8}" y="{y + 15}">{escape(name)}</text>'
            f'<rect class="bar c0" x="{left}" y="{y + 3}" width="{max(length, 1):.1f}" height="16">'
            f"<title>{escape(name)}: {value:.4g} {escape(unit)}</title></rect>"
            f'<text class="small" x="{left + max(length, 1) + 6:.1f}" y="{y + 15}">{escape(beside)}</text>'
        )
    return (
        f'<svg viewBox="0 0 {WIDTH + 140} {height}" role="img" aria-label="bars">' + "".join(parts) + "</svg>"
    )


class _Scale:
    """Values to places, with round ticks."""

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


def _axes(x_scale: _Scale, y_scale: _Scale, x_label: str, y_label: str) -> str:
    parts = []
    for tick in y_scale.ticks:
        y = y_scale(tick)
        if _TOP - 1 <= y <= HEIGHT - _BOTTOM + 1:
            parts.append(f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
            parts.append(f'<text class="tick end" x="{_LEFT - 6}" y="{y + 4:.1f}">{_short(tick)}</text>')
    for tick in x_scale.ticks:
        x = x_scale(tick)
        if _LEFT - 1 <= x <= WIDTH - _RIGHT + 1:
            parts.append(
                f'<text class="tick mid" x="{x:.1f}" y="{HEIGHT - _BOTTOM + 16}">{_short(tick)}</text>'
            )
    middle = (_TOP + HEIGHT - _BOTTOM) / 2
    parts.append(
        f'<line class="axis" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{HEIGHT - _BOTTOM}" '
        f'y2="{HEIGHT - _BOTTOM}"/>'
        f'<text class="label mid" x="{(_LEFT + WIDTH - _RIGHT) / 2}" y="{HEIGHT - 6}">'
        f"{escape(x_label)}</text>"
        f'<text class="label mid" transform="translate(14 {middle}) rotate(-90)">{escape(y_label)}</text>'
    )
    return "".join(parts)


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _svg(parts: list[str], label: str) -> str:
    inner = "".join(parts)
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(label)}">{inner}</svg>'


def _legend(names: list[str]) -> str:
    if len(names) < 2:
        return ""
    keys = "".join(f'<span class="key c{i % 4}">{escape(name)}</span>' for i, name in enumerate(names))
    return f'<p class="legend">{keys}</p>'
