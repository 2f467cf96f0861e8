"""The page of one window."""

from __future__ import annotations

from typing import Any

from edgesparse_runtime.arrays import FloatArray
from edgesparse_runtime.explain.page.drawing import draw_bars, draw_map, draw_signal
from edgesparse_runtime.explain.page.words import text
from edgesparse_runtime.measure.report.frame import figure, page, section, signed, table

_MOST_CHANNELS = 12


def window_page(result: dict[str, Any], window_CT: FloatArray, lang: str = "en") -> str:
    """The page of a result of `Explanation.to_dict`.

    Args:
        window_CT: the window that it explains.
        lang: "en" or "ja".
    """
    predicted = result["predicted"]
    score = result["scores"][predicted] if predicted else next(iter(result["scores"].values()))
    name = predicted or text("output", lang)
    summary = [text("of", lang, data=result.get("data", ""), bundle=result.get("bundle", ""))]
    if result["against"]:
        rival = result["against"]
        summary.append(text("next", lang, against=rival, score=f"{result['scores'][rival]:.3g}"))
    return page(
        text("title", lang, index=result.get("index", 0), predicted=name, score=f"{score:.3g}"),
        summary,
        text("good" if result["reliable"] else "bad", lang),
        result["reliable"],
        [
            _influence(result, window_CT, lang),
            _routing(result, lang),
            _trust(result, lang),
            _nearest(result, lang),
        ],
        lang,
    )


def _influence(result: dict[str, Any], window_CT: FloatArray, lang: str) -> str:
    found, unit = result["influence"], result["unit"]
    segments = found["segments"]
    pictures = []
    for row, channel in list(zip(window_CT, result["signal"], strict=True))[:_MOST_CHANNELS]:
        label = text(
            "signal", lang, name=channel["name"], low=_short(channel["low"]), high=_short(channel["high"])
        )
        pictures.append(figure(label, draw_signal(row, segments, label)))
    edges = [s["start"] / result["steps"] for s in segments] + [1.0]
    title = text("value", lang)
    pictures.append(figure(title, draw_bars([s["influence"] for s in segments], title, edges)))
    against = result["against"] if len(result["scores"]) > 2 else None
    head = [title, *([text("against", lang, against=against)] if against else []), text("without", lang)]
    rows = [[_steps(s), *_figures(s, against)] for s in segments]
    tables = [table(title, [text("steps", lang), *head], rows, shows_caption=False)]
    if found["channels"]:
        rows = [[c["name"], *_figures(c, against)] for c in found["channels"]]
        tables.append(table(text("channel", lang), [text("channel", lang), *head], rows))
    unit = text(unit, lang)
    how = text("influence_how", lang, predictions=found["predictions"], unit=unit)
    return section(text("influence", lang), [how], *pictures, *tables)


def _routing(result: dict[str, Any], lang: str) -> str:
    routing = result["routing"]
    if routing is None:
        return section(text("routing", lang), [text(result["routing_note"], lang)])
    maps, rows = [], []
    for layer in routing["layers"]:
        label = text("map", lang, layer=layer["name"])
        maps.append(figure(label, draw_map(layer, label)))
        for i, head in enumerate(layer["heads"]):
            counts = [f"{head['reasons'][reason]}" for reason in ("diagonal", "window", "share")]
            row = [layer["name"], f"{i}", f"{head['density']:.0%}", f"{head['left_share']:.0%}", *counts]
            rows.append([*row, "–" if head["margin"] is None else f"{head['margin']:.2g}"])
    names = ["layer", "head", "blocks", "left", "diagonal", "window", "share", "margin"]
    attended = [
        [_steps(block), f"{share:.0%}"]
        for block, share in zip(routing["blocks"], routing["attended"], strict=True)
    ]
    return section(
        text("routing", lang),
        [text("not_why", lang)],
        *maps,
        table(text("layer", lang), [text(name, lang) for name in names], rows),
        table(text("attended", lang), [text("steps", lang), text("attended", lang)], attended),
    )


def _trust(result: dict[str, Any], lang: str) -> str:
    lines = [text("order", lang, orders=result["trust"]["orders"], **_interval(result["trust"]))]
    agreement = result["agreement"]
    if agreement is not None:
        lines.append(text("agreement", lang, correlation=signed(agreement["correlation"])))
        lines.append(text("order_routing", lang, **_interval(agreement["routing"])))
    return section(text("trust", lang), lines)


def _nearest(result: dict[str, Any], lang: str) -> str:
    found = result["nearest"]
    if found is None:
        return ""
    facts = {"name": found["class"], "score": f"{found['score_after']:.3g}"}
    first = text(
        "nearest_is", lang, name=found["class"], row=found["row"], distance=f"{found['distance']:.2f}"
    )
    if found["suffices"] is None:
        return section(text("nearest", lang), [first, text("stays", lang, **facts)])
    steps = ", ".join(map(_steps, found["suffices"]))
    return section(text("nearest", lang), [first, text("suffices", lang, steps=steps, **facts)])


def _interval(trust: dict[str, Any]) -> dict[str, str]:
    plain = {key: f"{trust[key]:.3f}" for key in ("own", "random")}
    return plain | {key: f"{trust[key]:+.3f}" for key in ("difference", "low", "high")}


def _figures(part: dict[str, Any], against: str | None) -> list[str]:
    rival = [] if against is None else [signed(part["influence_against"])]
    return [signed(part["influence"]), *rival, f"{part['score_without']:.3g}"]


def _steps(part: dict[str, Any]) -> str:
    return f"{part['start']}–{part['end'] - 1}"


def _short(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"
