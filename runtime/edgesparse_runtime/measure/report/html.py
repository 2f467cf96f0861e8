"""A profile as one HTML page that needs nothing but itself: no script, no font, no picture from elsewhere."""

from __future__ import annotations

from html import escape
from typing import Any

from edgesparse_runtime.measure.report import svg

_STYLE = """
:root { --ink: #1b2330; --soft: #5b6675; --line: #dfe4ea; --back: #f6f7f9; --card: #fff;
  --c0: #2463a8; --c1: #c2571a; --c2: #2b8a57; --c3: #7d4aa8; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8ebf0; --soft: #9aa5b4; --line: #343c48;
  --back: #14181e; --card: #1d232b; --c0: #6aa5e8; --c1: #f0945a; --c2: #63c794; --c3: #b68ae0; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--back); color: var(--ink);
  font: 15px/1.5 system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
main { max-width: 860px; margin: 0 auto; padding: 28px 20px 60px; }
h1 { font-size: 24px; margin: 0 0 2px; } h2 { font-size: 17px; margin: 0 0 4px; }
.sub, .note { color: var(--soft); margin: 2px 0 0; } .note { font-size: 13px; margin-top: 8px; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  padding: 16px 18px; margin-top: 16px; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(128px, 1fr)); gap: 10px;
  margin-top: 16px; }
.figure { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 10px 14px; }
.figure b { display: block; font-size: 20px; white-space: nowrap; font-variant-numeric: tabular-nums; }
.figure span { color: var(--soft); font-size: 13px; }
table { border-collapse: collapse; width: 100%; margin-top: 8px; font-variant-numeric: tabular-nums; }
td, th { text-align: right; padding: 3px 8px; border-bottom: 1px solid var(--line); font-size: 13.5px; }
td:first-child, th:first-child { text-align: left; } th { color: var(--soft); font-weight: 500; }
.wide { overflow-x: auto; } .late { color: var(--c1); font-weight: 600; }
svg { width: 100%; height: auto; display: block; margin-top: 8px; }
svg text { fill: var(--ink); font-size: 12px; } .tick, .small { fill: var(--soft); font-size: 11px; }
svg text.tick, svg text.small { fill: var(--soft); font-size: 11px; } .label { font-size: 12px; }
.mid { text-anchor: middle; } .end, .name { text-anchor: end; }
.grid { stroke: var(--line); } .axis { stroke: var(--soft); }
.rule { stroke: var(--c1); stroke-dasharray: 3 3; }
.line { fill: none; stroke-width: 2; } .line.c0 { stroke: var(--c0); } .line.c1 { stroke: var(--c1); }
.line.c2 { stroke: var(--c2); } .line.c3 { stroke: var(--c3); }
.mark.c0, .bar.c0 { fill: var(--c0); } .mark.c1, .bar.c1 { fill: var(--c1); }
.mark.c2 { fill: var(--c2); } .mark.c3 { fill: var(--c3); }
.legend { margin: 4px 0 0; font-size: 13px; } .key { margin-right: 16px; }
.key::before { content: ""; display: inline-block; width: 12px; height: 3px; margin: 0 6px 3px 0;
  vertical-align: middle; background: var(--c0); }
.key.c1::before { background: var(--c1); } .key.c2::before { background: var(--c2); }
.key.c3::before { background: var(--c3); }
"""
_MOST_BARS = 16


def profile_page(result: dict[str, Any]) -> str:
    """The page of a result of `run_jobs` with its `environment`."""
    p = result["profile"]
    threads = f"{p['threads']} thread{'s' if p['threads'] != 1 else ''}"
    windows = "one window" if p["batch"] == 1 else f"{p['batch']} windows"
    title = f"{p['model'].rstrip('/').rsplit('/', 1)[-1]}: {p['p50']:.2f} ms"
    parts = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="sub">Median time of a call with {windows} of {p["length"]:,} steps, {threads}, '
        f"{escape(p['precision'])}, sparse attention by {escape(p['engine'])}, on "
        f"{escape(result['environment']['cpu'])}{escape(_where(result))}.</p>",
        _figures(p),
        _latency(result),
        _modules(result),
        _sweeps(result.get("sweep", {})),
        _paced(result.get("paced", [])),
        _soak(result.get("soak")),
        _machine(result),
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body><main>"
        + "".join(parts)
        + "</main></body></html>\n"
    )


def _where(result: dict[str, Any]) -> str:
    return f" at {result['on']}" if result.get("on") else ""


def _figures(p: dict[str, Any]) -> str:
    cells = [
        (f"{p['p50']:.2f} ms", "half of the calls (p50)"),
        (f"{p['p99']:.2f} ms", "99 of 100 calls (p99)"),
        (f"{p['max']:.2f} ms", f"slowest of {p['calls']:,}"),
        (f"{p['first']:.1f} ms", "first inference"),
        (f"{p['load']:.0f} ms", "opening the model"),
        (
            f"{p['memory_peak']:.0f} MB",
            f"peak memory, {p['memory_peak'] - p['memory_before']:.0f} the model's",
        ),
    ]
    figures = "".join(
        f'<div class="figure"><b>{escape(a)}</b><span>{escape(b)}</span></div>' for a, b in cells
    )
    return f'<div class="figures">{figures}</div>'


def _latency(result: dict[str, Any]) -> str:
    p, times = result["profile"], result["latencies"]
    lines = {name: p[name] for name in ("p50", "p95", "p99")}
    course = [(float(i), t) for i, t in enumerate(times)]
    return (
        "<section><h2>How long calls took</h2>"
        f'<p class="sub">{p["calls"]:,} calls, each on new input ({escape(p["inputs"])}, shifted and '
        "scaled).</p>"
        + svg.histogram(times, lines, x_label="milliseconds a call")
        + svg.curves({"a call": course}, x_label="call", y_label="milliseconds", marks=False, dots=True)
        + "</section>"
    )


def _modules(result: dict[str, Any]) -> str:
    modules = result.get("modules")
    if not modules:
        return ""
    rows = [
        (
            m["name"],
            m["milliseconds"],
            f"{m['milliseconds']:.3f} ms, {m['share']:.1%}"
            + ("" if m["density"] is None else f", density {m['density']:.0%}"),
        )
        for m in modules[:_MOST_BARS]
    ]
    rest = modules[_MOST_BARS:]
    if rest:
        spent = sum(m["milliseconds"] for m in rest)
        rows.append((f"{len(rest)} more", spent, f"{spent:.3f} ms, {sum(m['share'] for m in rest):.1%}"))
    shares = _attention_shares(modules)
    return (
        "<section><h2>Where the time goes</h2>"
        '<p class="sub">PyTorch modules, milliseconds a call under the profiler; '
        f"{shares}Density is the share of blocks that attention looked at.</p>"
        + svg.bars(rows, unit="ms")
        + "</section>"
    )


def _attention_shares(modules: list[dict[str, Any]]) -> str:
    routing = sum(m["share"] for m in modules if m["name"].endswith(".router"))
    attention = sum(m["share"] for m in modules if m["name"].endswith(".operator"))
    if not attention:
        return ""
    return f"routing takes {routing:.0%} and attention {attention:.0%} of it. "


def _sweeps(sweep: dict[str, list[dict[str, Any]]]) -> str:
    parts = []
    names = {"threads": "threads", "batch": "windows a call", "length": "steps a window"}
    for key, points in sweep.items():
        lines = {name: [(float(q[key]), q[name]) for q in points] for name in ("p50", "p99")}
        memory = [f"{q['memory_peak'] - q['memory_before']:.0f}" for q in points]
        parts.append(
            f"<section><h2>By {names[key]}</h2>"
            + svg.curves(
                lines, x_label=names[key], y_label="milliseconds a call", logarithmic=key != "threads"
            )
            + _table(
                [names[key], "p50 ms", "p90", "p99", "max", "windows/s", "model's MB"],
                [
                    [
                        f"{q[key]:,}",
                        f"{q['p50']:.2f}",
                        f"{q['p90']:.2f}",
                        f"{q['p99']:.2f}",
                        f"{q['max']:.2f}",
                        f"{1e3 * q['batch'] / q['p50']:,.0f}",
                        m,
                    ]
                    for q, m in zip(points, memory, strict=True)
                ],
            )
            + "</section>"
        )
    return "".join(parts)


def _paced(paced: list[dict[str, Any]]) -> str:
    if not paced:
        return ""
    rows = []
    for q in paced:
        late = f"{q['missed']} of {q['calls']}"
        rows.append(
            [
                f"{q['rate']:g}",
                f"{q['deadline']:.4g}",
                f'<span class="late">{late}</span>' if q["missed"] else late,
                f"{q['p50']:.2f}",
                f"{q['p99']:.2f}",
                f"{q['max']:.2f}",
                f"{q['busy']:.0%}",
                f"{q['served']:.1f}",
            ]
        )
    head = ["windows/s", "deadline ms", "late", "p50 ms", "p99", "max", "computing", "answered/s"]
    return (
        "<section><h2>At a fixed rate</h2>"
        '<p class="sub">Milliseconds from when a window was due to its answer.</p>'
        + _table(head, rows, is_safe=True)
        + "</section>"
    )


def _soak(soak: dict[str, Any] | None) -> str:
    if not soak:
        return ""
    course = [(float(x), y) for x, y in soak["course"]]
    return (
        f"<section><h2>{soak['runs']:,} runs with changing lengths</h2>"
        f'<p class="sub">{soak["lengths"][0]:,} to {soak["lengths"][1]:,} steps, {soak["seconds"]:.0f} s. '
        f"After the first tenth memory moved by {soak['slope_mb']:+.2f} MB "
        f"[{soak['slope_low']:+.2f}, {soak['slope_high']:+.2f}].</p>"
        + svg.curves({"memory": course}, x_label="run", y_label="resident MB", marks=False)
        + "</section>"
    )


def _machine(result: dict[str, Any]) -> str:
    e, c = result["environment"], result["conditions"]
    quota = "none" if e["cgroup_quota"] is None else f"{e['cgroup_quota']:g} cores"
    rows = [
        ["processor", f"{e['cpu']} ({e['machine']}), {e['cores']} cores, {e['usable_threads']} usable"],
        ["instruction sets", " ".join(e["instruction_sets"]) or "unknown"],
        ["engine", e["engine"]],
        ["quota, governor", f"{quota}, {e['governor'] or 'governor not visible'}"],
        ["held back by quota", _known(c["quota_throttled"], "{} periods")],
        ["slowed by heat", _known(c["heat_throttled"], "{} times")],
        ["time taken by the host", _known(c["stolen"], "{:.1%}")],
        ["cores busy", _known(c["busy"], "{:.0%} (this measurement included)")],
        ["clock, load", f"{_known(c['megahertz'], '{:.0f} MHz')}, {_known(c['load'], '{:.2f}')}"],
        ["system", e["system"]],
        ["versions", ", ".join(f"{name} {v}" for name, v in e["versions"].items())],
    ]
    cells = "".join(
        f'<tr><td>{escape(a)}</td><td style="text-align:left">{escape(b)}</td></tr>' for a, b in rows
    )
    return f"<section><h2>The machine, and what disturbed it</h2><table>{cells}</table></section>"


def _known(value: float | None, form: str) -> str:
    return "not visible" if value is None else form.format(value)


def _table(head: list[str], rows: list[list[str]], *, is_safe: bool = False) -> str:
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join(
        "<tr>" + "".join(f"<td>{cell if is_safe else escape(cell)}</td>" for cell in row) + "</tr>"
        for row in rows
    )
    return f'<div class="wide"><table><tr>{top}</tr>{body}</table></div>'
