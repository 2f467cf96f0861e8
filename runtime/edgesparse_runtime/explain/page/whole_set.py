"""The page of a set of windows."""

from __future__ import annotations

from typing import Any

from edgesparse_runtime.explain.page.drawing import draw_bars
from edgesparse_runtime.explain.page.words import text
from edgesparse_runtime.measure.report.frame import figure, page, section, signed, table


def set_page(result: dict[str, Any], lang: str = "en") -> str:
    """The page of a result of `SetExplanation.to_dict`.

    Args:
        lang: "en" or "ja".
    """
    sampled = text("sampled", lang, windows=result["windows"], total=result["total"])
    return page(
        text("title_set", lang, windows=result["windows"]),
        [text("of", lang, data=result.get("data", ""), bundle=result.get("bundle", "")), sampled],
        text("good" if result["reliable"] else "bad", lang),
        result["reliable"],
        [
            *(_class(result, found, lang) for found in result["classes"]),
            _never(result, lang),
            _trust(result, lang),
        ],
        lang,
    )


def _class(result: dict[str, Any], found: dict[str, Any], lang: str) -> str:
    title = text("class", lang, name=found["name"] or text("all", lang), windows=found["windows"])
    label = text("value", lang)
    head = [text("part", lang), text("share", lang), label]
    attended = found["attended"]
    rows = [
        [_place(i, result), f"{found['share'][i]:.1%}", signed(found["influence"][i])]
        + ([f"{attended[i]:.0%}"] if attended else [])
        for i in range(result["places"])
    ]
    head += [text("attended", lang)] if attended else []
    tables = [table(f"{title}: {label}", head, rows, shows_caption=False)]
    if found["channels"]:
        rows = [
            [name, f"{share:.1%}", signed(value)]
            for name, share, value in zip(
                result["channels"], found["channel_share"], found["channels"], strict=True
            )
        ]
        tables.append(table(f"{title}: {text('channel', lang)}", [text("channel", lang), *head[1:3]], rows))
    return section(title, [], figure(label, draw_bars(found["influence"], f"{title}: {label}")), *tables)


def _never(result: dict[str, Any], lang: str) -> str:
    never = result["never"]
    lines = []
    for key in ("places", "attended"):
        if never[key]:
            lines.append(text(f"never_{key}", lang, found=", ".join(_place(i, result) for i in never[key])))
    if never["channels"]:
        lines.append(text("never_channels", lang, found=", ".join(never["channels"])))
    return section(text("never", lang), lines or [text("never_none", lang)])


def _trust(result: dict[str, Any], lang: str) -> str:
    trust = result["trust"]
    lines = [text("order_set", lang, windows=trust["windows"], **_interval(trust))]
    if result["routing_trust"] is not None:
        agreement = result["agreement"]["mean"]
        lines.append(text("agreement", lang, correlation=signed(agreement)))
        found = _interval(result["routing_trust"])
        lines.append(
            text("order_routing", lang, difference=found["mean"], low=found["low"], high=found["high"])
        )
    if result["routing_note"]:
        lines.append(text(result["routing_note"], lang))
    return section(text("trust", lang), lines)


def _interval(found: dict[str, Any]) -> dict[str, str]:
    values = {key: found[key] for key in ("mean", "low", "high")}
    return {key: "–" if value is None else f"{value:+.3f}" for key, value in values.items()}


def _place(index: int, result: dict[str, Any]) -> str:
    first, last = (100 * i / result["places"] for i in (index, index + 1))
    return f"{first:.0f}–{last:.0f} %"
