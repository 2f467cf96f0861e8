"""A profile as one HTML page that needs nothing but itself: no script, no font, no picture from elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from string import Template

from edgesparse_runtime.measure.modules import Module
from edgesparse_runtime.measure.paced_load import Paced
from edgesparse_runtime.measure.report import svg
from edgesparse_runtime.measure.report.frame import resource, section, table
from edgesparse_runtime.measure.report.page_text import page_text
from edgesparse_runtime.measure.results import Profile, ProfileResult
from edgesparse_runtime.measure.soak import Soak

ROOM = "measure.report"
_MOST_BARS = 16
_SWEEPS = {"threads": "threads", "batch": "windows per call", "length": "steps per window"}


def profile_page(result: ProfileResult) -> str:
    """The page of a result of `run_jobs`."""
    p = result.profile
    name = p.model.rstrip("/").rsplit("/", 1)[-1]
    threads = f"{p.threads} thread{'s' if p.threads != 1 else ''}"
    windows = "one window" if p.batch == 1 else f"{p.batch} windows"
    where = f" at {result.on}" if result.on is not None else ""
    summary = (
        f"Median time per call with {windows} of {p.length:,} steps, {threads}, {p.precision}, "
        f"sparse attention by {p.engine}, on {result.environment['cpu']}{where}."
    )
    sections = [
        _verdicts(result.paced),
        _figures(p),
        _latency(result),
        _modules(result.modules or []),
        *(_sweep(name, points) for name, points in result.sweep.items()),
        _paced(result.paced),
        _soak(result.soak),
        _machine(result),
    ]
    return Template(resource(ROOM, "page.html")).substitute(
        lang="en",
        title=page_text(f"{name}: {p.p50:.2f} ms"),
        summary=page_text(summary),
        style=resource(ROOM, "page.css") + resource(ROOM, "document.css"),
        sections="\n".join(section for section in sections if section),
    )


def _verdicts(paced: list[Paced]) -> str:
    return "".join(
        f'<section class="verdict{" missed" if q.missed else ""}">{page_text(q.verdict)}</section>'
        for q in paced
    )


def _figures(p: Profile) -> str:
    cells = [
        (f"{p.p50:.2f} ms", "half of the calls (p50)"),
        (f"{p.p99:.2f} ms", "99 of 100 calls (p99)"),
        (f"{p.max:.2f} ms", f"slowest of {p.calls:,}"),
        (f"{p.first:.1f} ms", "first inference"),
        (f"{p.load:.0f} ms", "opening the model"),
        (f"{p.memory_peak:.0f} MB", f"peak memory, {p.memory_model:.0f} the model's"),
    ]
    figures = "".join(
        f'<div class="figure"><b>{page_text(a)}</b><span>{page_text(b)}</span></div>' for a, b in cells
    )
    return f'<div class="figures">{figures}</div>'


def _latency(result: ProfileResult) -> str:
    p, times = result.profile, result.latencies
    lines = {"p50": p.p50, "p95": p.p95, "p99": p.p99}
    course = [(float(i), t) for i, t in enumerate(times)]
    sampled = "" if len(times) == p.calls else f" The charts show every {-(-p.calls // len(times))}th call."
    return section(
        "How long calls took",
        [f"{p.calls:,} calls, each on new input ({p.inputs}, shifted and scaled).{sampled}"],
        _chart(lambda width: svg.histogram(times, lines, x_label="milliseconds per call", width=width))
        + _chart(
            lambda width: svg.scatter(
                course, x_label="call" if not sampled else "sampled call", y_label="milliseconds", width=width
            )
        ),
    )


def _modules(modules: list[Module]) -> str:
    if not modules:
        return ""
    rows = [
        (
            m.name,
            m.milliseconds,
            f"{m.milliseconds:.3f} ms, {m.share:.1%}"
            + ("" if m.density is None else f", density {m.density:.0%}"),
        )
        for m in modules[:_MOST_BARS]
    ]
    if rest := modules[_MOST_BARS:]:
        spent = sum(m.milliseconds for m in rest)
        rows.append((f"{len(rest)} more", spent, f"{spent:.3f} ms, {sum(m.share for m in rest):.1%}"))
    return section(
        "Where the time goes",
        [
            f"PyTorch modules, milliseconds per call under the profiler; {_attention_shares(modules)}"
            "Density is the share of blocks that attention reads."
        ],
        _chart(lambda width: svg.bars(rows, unit="ms", width=width)),
    )


def _attention_shares(modules: list[Module]) -> str:
    routing = sum(m.share for m in modules if m.name.endswith(".router"))
    attention = sum(m.share for m in modules if m.name.endswith(".operator"))
    if not attention:
        return ""
    return f"routing takes {routing:.0%} and attention {attention:.0%} of the time. "


def _sweep(setting: str, points: list[Profile]) -> str:
    label = _SWEEPS[setting]
    places = [float(getattr(p, setting)) for p in points]
    lines = {
        name: [(x, getattr(p, name)) for x, p in zip(places, points, strict=True)] for name in ("p50", "p99")
    }
    rows = [
        [
            f"{x:,.0f}",
            f"{p.p50:.2f}",
            f"{p.p90:.2f}",
            f"{p.p99:.2f}",
            f"{p.max:.2f}",
            f"{1e3 * p.batch / p.p50:,.0f}",
            f"{p.memory_model:.0f}",
        ]
        for x, p in zip(places, points, strict=True)
    ]
    return section(
        f"By {label}",
        [],
        _chart(
            lambda width: svg.curves(
                lines,
                x_label=label,
                y_label="milliseconds per call",
                logarithmic=setting != "threads",
                width=width,
            )
        )
        + table(
            f"By {label}",
            [label, "p50 ms", "p90", "p99", "max", "windows/s", "model's MB"],
            rows,
            shows_caption=False,
        ),
    )


def _paced(paced: list[Paced]) -> str:
    if not paced:
        return ""
    rows = [
        [
            f"{q.rate:g}",
            f"{q.deadline:.4g}",
            f"{q.missed} of {q.calls}",
            f"{q.p50:.2f}",
            f"{q.p99:.2f}",
            f"{q.max:.2f}",
            f"{q.busy:.0%}",
            f"{q.served:.1f}",
        ]
        for q in paced
    ]
    head = ["windows/s", "deadline ms", "late", "p50 ms", "p99", "max", "computing", "answered/s"]
    return section(
        "At a fixed rate",
        [
            "Milliseconds from when a window was due to its answer. Between windows the processor idles, its "
            "clock drops and its caches go cold, so a paced call takes longer than one of many in a row."
        ],
        table(
            "At a fixed rate",
            head,
            rows,
            shows_caption=False,
            late={i for i, q in enumerate(paced) if q.missed},
        ),
    )


def _soak(soak: Soak | None) -> str:
    if soak is None:
        return ""
    course = [(float(x), y) for x, y in soak.course]
    return section(
        f"{soak.runs:,} runs with changing lengths",
        [
            f"{soak.lengths[0]:,} to {soak.lengths[1]:,} steps, {soak.seconds:.0f} s. After the first tenth, "
            f"memory changed by {soak.slope_mb:+.2f} MB [{soak.slope_low:+.2f}, {soak.slope_high:+.2f}]."
        ],
        _chart(
            lambda width: svg.curves(
                {"memory": course}, x_label="run", y_label="resident MB", marks=False, width=width
            )
        ),
    )


def _machine(result: ProfileResult) -> str:
    e, c = result.environment, result.conditions
    quota = "none" if e["cgroup_quota"] is None else f"{e['cgroup_quota']:g} cores"
    rows = [
        ["processor", f"{e['cpu']} ({e['machine']}), {e['cores']} cores, {e['usable_threads']} usable"],
        ["instruction sets", " ".join(e["instruction_sets"]) or "unknown"],
        ["engine", e["engine"]],
        ["quota, governor", f"{quota}, {e['governor'] or 'governor not visible'}"],
        ["throttled by the quota", _known(c.quota_throttled, "{} periods")],
        ["slowed by heat", _known(c.heat_throttled, "{} times")],
        ["time taken by the host", _known(c.stolen, "{:.1%}")],
        ["cores busy", _known(c.busy, "{:.0%} (this measurement included)")],
        ["clock, load", f"{_known(c.megahertz, '{:.0f} MHz')}, {_known(c.load, '{:.2f}')}"],
        ["system", e["system"]],
        ["versions", ", ".join(f"{name} {v}" for name, v in e["versions"].items())],
    ]
    cells = "".join(f'<tr><th scope="row">{page_text(a)}</th><td>{page_text(b)}</td></tr>' for a, b in rows)
    return section("The machine, and what disturbed it", [], f'<table class="facts">{cells}</table>')


def _known(value: float | None, form: str) -> str:
    return "not visible" if value is None else form.format(value)


def _chart(draw: Callable[[int], str]) -> str:
    """The same chart drawn for a page and for a phone, so that its text is readable on both."""
    return f'<div class="wide">{draw(svg.WIDE)}</div><div class="narrow">{draw(svg.NARROW)}</div>'
