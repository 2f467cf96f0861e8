"""The page of a decision, for three readers: who decides, who runs the line, who made the models."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from edgesparse_runtime.measure.decision.commands import commands_behind, next_commands
from edgesparse_runtime.measure.decision.words import in_sentence, model_name, points, text, verdict_sentence
from edgesparse_runtime.measure.report import svg
from edgesparse_runtime.measure.report.frame import figure, page, resource, section, table
from edgesparse_runtime.measure.report.page_text import page_text

ROOM = "measure.decision"


def decision_page(facts: dict[str, Any], lang: str = "en") -> str:
    """The page of what `poc_facts` or `bundle_facts` found.

    Args:
        lang: "en" or "ja".
    """
    is_poc = facts["kind"] == "poc"
    say = _speaker(lang)
    data = facts["data"]
    summary = say("summary_bundle", cpu=facts["cpu"])
    if is_poc:
        counts = {"training": data["training_series"], "test": data["test_series"]}
        summary = say("summary_poc", classes=facts["class_count"], cpu=facts["cpu"], **counts)
    parts = [
        _audience("manager", lang),
        _decision(facts, lang),
        _not_shown(facts, lang) if is_poc else "",
        _return(facts, lang),
        _audience("line", lang),
        _line(facts, lang),
        _unknown(facts, lang),
        _audience("engineer", lang),
        _table(facts, lang),
        _curve(facts, lang) if is_poc else "",
        _commands(facts, lang),
        _origin(facts, lang),
    ]
    is_good = facts["verdict"]["why"] in ("fastest", "better", "dense is fastest", "bundle", "bundle_few")
    return page(
        say("title_poc" if is_poc else "title_bundle", name=facts["source"]),
        [summary],
        _verdict(facts, lang),
        is_good,
        parts,
        lang,
        style=resource(ROOM, "decision.css"),
    )


def _speaker(lang: str) -> Callable[..., str]:
    return lambda key, **values: text(key, lang, **values)


def _audience(key: str, lang: str) -> str:
    return f'<h2 class="audience">{page_text(text(key, lang))}</h2>'


def _used(facts: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = facts["models"][facts["verdict"]["use"]]
    return found


def _verdict(facts: dict[str, Any], lang: str) -> str:
    if facts["kind"] == "poc":
        return verdict_sentence(facts["result"], lang)
    used = _used(facts)
    times = {key: _ms(used[key]) for key in ("p99", "max")}
    values = {"deadline": f"{facts['deadline']:g}", "calls": f"{used['calls']:,}"}
    return text(f"use_{facts['verdict']['why']}", lang, **times, **values)


def _decision(facts: dict[str, Any], lang: str) -> str:
    say, used, verdict = _speaker(lang), _used(facts), facts["verdict"]
    name, accuracy, deadline = in_sentence(used, lang), used["accuracy"], f"{facts['deadline']:g}"
    lines = []
    if accuracy is None:
        lines.append(say("accuracy_unknown"))
    elif accuracy["low"] is None:
        lines.append(say("accuracy_alone", name=name, accuracy=_percent(accuracy["value"])))
    else:
        ends = {key: _percent(accuracy[key]) for key in ("low", "high")}
        lines.append(say("accuracy_is", name=name, accuracy=_percent(accuracy["value"]), **ends))
    if facts["kind"] == "poc":
        key = "sure_once" if facts["seeds"] == 1 else "sure"
        lines.append(say(key, seeds=facts["seeds"], n=facts["data"]["test_series"]))
        if not verdict["has_bundle"]:
            lines.append(say("no_bundle"))
    lines += _fragile(facts, lang)
    if used["streams"] is not None:
        counts = {"cores": facts["cores"], "streams": f"{used['streams']:,}", "deadline": deadline}
        if facts["kind"] == "poc" and verdict["use"] != verdict["reference"]:
            dense = facts["models"][verdict["reference"]]["streams"]
            lines.append(say("streams_are", dense=f"{dense:,}", **counts))
        else:
            lines.append(say("streams_bundle", **counts))
    if facts["deadline_is_assumed"]:
        lines.append(say("default_deadline"))
    lines.append(_energy(facts, lang))
    return f"<section>{_list(lines)}</section>"


def _energy(facts: dict[str, Any], lang: str) -> str:
    say, found = _speaker(lang), facts["energy"]
    if found is None or found["use"] is None:
        return say("energy")
    values = {"use": f"{found['use']:.3g}"}
    if found["watts"] is not None:
        values["watts"] = f"{found['watts']:g}"
    told = [say(f"energy_{found['source']}", **values)]
    if found["base"] is not None:
        told.append(say("energy_base", base=f"{found['base']:.3g}"))
    return " ".join(told)


def _fragile(facts: dict[str, Any], lang: str) -> list[str]:
    """A warning where noise costs more accuracy than the margin, and which model it costs least."""
    used, verdict = _used(facts), facts["verdict"]
    if used["noise"] is None or used["noise"]["value"] >= -verdict["margin"]:
        return []
    steady = max(facts["models"].values(), key=lambda row: row["noise"]["value"])
    values = {"noise": f"{facts['noise']:g}", "points": points(used["noise"], lang)}
    values["name"] = in_sentence(used, lang)
    if steady["noise"]["value"] == used["noise"]["value"]:
        return [text("fragile_alone", lang, **values)]
    other = {"steady": in_sentence(steady, lang), "other": points(steady["noise"], lang)}
    return [text("fragile", lang, **values, **other)]


def _not_shown(facts: dict[str, Any], lang: str) -> str:
    say, data, margin = _speaker(lang), facts["data"], f"{facts['verdict']['margin']:g}"
    lines = []
    unsure = [row for row in facts["models"].values() if row["state"] == "not shown"]
    if unsure:
        nearest = min(unsure, key=lambda row: row["needed"] or math.inf)
        needs = say("needs_other")
        if nearest["needed"] is not None:
            needs = say("needs_more", needed=f"{nearest['needed']:,}", name=in_sentence(nearest, lang))
        names = "; ".join(model_name(row, lang) for row in unsure)
        lines.append(f"{say('open', margin=margin, names=names)} {needs}")
    groups = data["test_groups"]
    lines.append(say("no_groups") if groups is None else say("with_groups", groups=groups))
    if facts["seeds"] == 1:
        lines.append(say("one_seed"))
    lines.append(say("chosen", models=facts["compared"]))
    if data["in_both"]:
        lines.append(say("in_both", count=data["in_both"]))
    if facts["dropped"]:
        lines.append(say("dropped", what="; ".join(found["what"] for found in facts["dropped"])))
    for key in ("left_out", "failed"):
        lines += [say(key, what=what, reason=reason) for what, reason in facts[key].items()]
    lines.append(say("one_machine"))
    return section(say("not_shown"), [], _list(lines))


def _return(facts: dict[str, Any], lang: str) -> str:
    say, found = _speaker(lang), facts["return"]
    data = "".join(f' data-{name}="{count}"' for name, count in found["per_machine"].items())
    fields = "".join(
        f"<label>{page_text(say(f'return_{name}'))}"
        f'<input type="number" min="0" name="{name}" value="{found[name]}"></label>'
        for name in ("streams", "price", "work")
    )
    names = [name for name in ("dense", "use") if name in found["per_machine"]]
    heads = {"dense": text("dense", lang), "use": model_name(_used(facts), lang)}
    top = "".join(f'<th scope="col">{page_text(heads[name])}</th>' for name in names)
    rows = ""
    for key in ("machines", "cost"):
        cells = "".join(
            f'<td id="{key}-{name}">{page_text(_count(found[name][key], say("return_none")))}</td>'
            for name in names
        )
        rows += f'<tr><th scope="row">{page_text(say(f"return_{key}"))}</th>{cells}</tr>'
    if len(names) == 2:
        rows += (
            f'<tr><th scope="row">{page_text(say("return_saved"))}</th><td></td>'
            f'<td id="saved">{page_text(_count(found["saved"], "–"))}</td></tr>'
        )
    title = page_text(say("return"))
    return section(
        say("return"),
        [say("return_how")],
        f'<form class="return"{data}>{fields}</form>'
        f'<div class="scroll wraps" role="region" aria-label="{title}" tabindex="0"><table>'
        f'<caption class="unseen">{title}</caption>'
        f'<thead><tr><th scope="col">{page_text(say("return_with"))}</th>{top}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div><script>{resource(ROOM, 'return.js')}</script>",
    )


def _line(facts: dict[str, Any], lang: str) -> str:
    say, used, verdict = _speaker(lang), _used(facts), facts["verdict"]
    lines = []
    if used["on_time"] is not None:
        times = {key: _ms(used[key]) for key in ("p99", "max")}
        calls = f"{used['calls']:,}"
        lines.append(say(used["on_time"], calls=calls, deadline=f"{facts['deadline']:g}", **times))
    if used["noise"] is not None:
        lines.append(say("noise_is", noise=f"{facts['noise']:g}", points=points(used["noise"], lang)))
    parts = [_list(lines), _errors(facts, lang)]
    parts.append(f"<h3>{page_text(say('next'))}</h3>")
    if facts["kind"] == "poc" and not verdict["has_bundle"]:
        fastest = in_sentence(facts["models"][verdict["fastest"]], lang)
        parts.append(f"<p>{page_text(say('next_rival', name=fastest))}</p>")
    else:
        parts.append(f"<p>{page_text(say('next_poc'))}</p>")
    commands = next_commands(facts)
    parts.append(_list([f"<code>{page_text(command)}</code>" for command in commands], is_html=True))
    return f"<section>{''.join(parts)}</section>"


def _errors(facts: dict[str, Any], lang: str) -> str:
    say, found = _speaker(lang), facts["confusion"]
    if found is None:
        return ""
    name, title = in_sentence(_used(facts), lang), f"<h3>{page_text(say('errors'))}</h3>"
    if not found["top"]:
        return f"{title}<p>{page_text(say('no_errors'))}</p>"
    if found["matrix"] is not None:
        rows = [
            [label, *(f"{count:,}" for count in counts)]
            for label, counts in zip(found["classes"], found["matrix"], strict=True)
        ]
        how = f'<p class="sub">{page_text(_capital(say("errors_how", name=name)))}</p>'
        return title + how + table(say("errors"), [say("true"), *found["classes"]], rows, shows_caption=False)
    rows = [[row["true"], row["taken"], f"{row['count']:,}"] for row in found["top"]]
    how = f'<p class="sub">{page_text(say("errors_top", name=name, shown=found["shown"]))}</p>'
    return (
        title
        + how
        + table(say("errors"), [say("true"), say("taken"), say("count")], rows, shows_caption=False)
    )


def _unknown(facts: dict[str, Any], lang: str) -> str:
    say, found = _speaker(lang), facts["unknown"]
    if found is None:
        return section(say("unknown"), [say("unknown_not")] if _used(facts)["accuracy"] else [])
    rows = [[kind, f"{share:.0%}"] for kind, share in found["kinds"].items()]
    sentence = say("unknown_how", refused=f"{found['refused']:.1%}", n=f"{found['n']:,}")
    head = [say("unknown_kind"), say("unknown_share")]
    return section(say("unknown"), [sentence], table(say("unknown"), head, rows, shows_caption=False))


def _table(facts: dict[str, Any], lang: str) -> str:
    say, is_poc = _speaker(lang), facts["kind"] == "poc"
    columns = ["model", "accuracy", *(["difference", "result", "attention"] if is_poc else [])]
    columns += ["p50", "p99", *(["ratio"] if is_poc else []), "noise", "streams", "weights", "size"]
    columns += ["train"] if is_poc else []
    head = [f"{key} ms" if key in ("p50", "p99") else say(key) for key in columns]
    rows = []
    for row in facts["models"].values():
        cells = _cells(row, lang)
        rows.append([cells[key] for key in columns])
    lines = [say("table_how", seeds=facts["seeds"])] if is_poc else []
    if any(row["rung"] == "multirocket-hydra" for row in facts["models"].values()):
        lines.append(say("alone"))
    parts = [table(say("table"), head, rows, shows_caption=False)]
    if is_poc:
        seeds = sorted({seed for row in facts["models"].values() for seed in row["by_seed"]}, key=int)
        by_seed = [
            [model_name(row, lang), *(_share(row["by_seed"].get(seed)) for seed in seeds)]
            for row in facts["models"].values()
        ]
        parts.append(f"<h3>{page_text(say('seeds'))}</h3>")
        parts.append(
            table(
                say("seeds"),
                [say("model"), *(say("seed", seed=s) for s in seeds)],
                by_seed,
                shows_caption=False,
            )
        )
    return section(say("table"), lines, *parts)


def _cells(row: dict[str, Any], lang: str) -> dict[str, str]:
    accuracy, noise, ratio = row["accuracy"], row["noise"], row["ratio"]
    return {
        "model": model_name(row, lang),
        "accuracy": "–" if accuracy is None else _with_ends(accuracy),
        "difference": "–" if row.get("state", "reference") == "reference" else points(row["points"], lang),
        "result": text(f"state {row['state']}", lang) if "state" in row else "",
        "attention": "–" if row["attention"] is None else f"{row['attention']:.0%}",
        "p50": _ms(row["p50"]),
        "p99": _ms(row["p99"]),
        "ratio": "–" if ratio is None else f"{ratio['ratio']:.2f}x [{ratio['low']:.2f}, {ratio['high']:.2f}]",
        "noise": "–" if noise is None else points(noise, lang),
        "streams": _count(row["streams"], "–"),
        "weights": _count(row["parameters"], "–"),
        "size": "–" if row["kilobytes"] is None else f"{row['kilobytes']:,.0f}",
        "train": "–" if row["train_seconds"] is None else f"{row['train_seconds']:,.0f}",
    }


def _curve(facts: dict[str, Any], lang: str) -> str:
    say, found = _speaker(lang), facts["curve"]
    if not found:
        return ""
    lines, rows, drawn = [], [], {}
    for name, curve in found.items():
        model = text(name, lang)
        drawn[model] = [(float(p["series"]), p["value"]) for p in curve["points"]]
        rows += [[model, f"{p['series']:,}", _with_ends(p)] for p in curve["points"]]
        gain = curve["gain"]
        if gain is not None:
            is_shown = gain["low"] is not None and gain["low"] > 0
            key = "curve_yes" if is_shown else "curve_no"
            lines.append(say(key, name=text(f"the {name}", lang), points=points(gain, lang)))
    x, y = say("labels"), say("accuracy")
    charts = "".join(
        f'<div class="{kind}">{svg.curves(drawn, x_label=x, y_label=y, from_zero=False, width=width)}</div>'
        for kind, width in (("wide", svg.WIDE), ("narrow", svg.NARROW))
    )
    head = [say("model"), say("labels"), say("accuracy")]
    return section(
        say("curve"),
        lines,
        figure(say("curve"), charts),
        table(say("curve"), head, rows, shows_caption=False),
    )


def _commands(facts: dict[str, Any], lang: str) -> str:
    say = _speaker(lang)
    entries = "".join(
        f"<dt>{page_text(say(key, name=text(name, lang) if name else ''))}</dt>"
        f"<dd><code>{page_text(command)}</code></dd>"
        for key, name, command in commands_behind(facts)
    )
    return section(say("commands"), [], f"<dl>{entries}</dl>")


def _origin(facts: dict[str, Any], lang: str) -> str:
    say = _speaker(lang)
    entries = [
        (say("machine"), f"{facts['cpu']}, {facts['system']}"),
        (say("versions"), ", ".join(f"{name} {version}" for name, version in facts["versions"].items())),
    ]
    if facts.get("settings"):
        entries.append((say("settings"), ", ".join(facts["settings"])))
    if "hashes" in facts["data"]:
        hashes = facts["data"]["hashes"]
        entries.append((say("data_hash"), f"{hashes['training']} {hashes['test']}"))
    for row in facts["models"].values():
        if row["sha256"] is not None:
            entries.append((say("hash", name=model_name(row, lang)), row["sha256"]))
        if row["int8_note"] and row["precision"] == "float32":
            name = text(row["rung"], lang)
            entries.append((f"int8, {name}", row["int8_note"]))
    body = "".join(f"<dt>{page_text(a)}</dt><dd><code>{page_text(b)}</code></dd>" for a, b in entries)
    return section(say("origin"), [], f"<dl>{body}</dl>")


def _list(lines: Sequence[str], *, is_html: bool = False) -> str:
    items = "".join(f"<li>{line if is_html else page_text(_capital(line))}</li>" for line in lines)
    return f'<ul class="notes">{items}</ul>' if items else ""


def _capital(line: str) -> str:
    return line[:1].upper() + line[1:]


def _with_ends(share: dict[str, Any]) -> str:
    if share["low"] is None:
        return _share(share["value"])
    return f"{share['value']:.3f} [{share['low']:.3f}, {share['high']:.3f}]"


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _percent(value: float) -> str:
    return f"{value:.1%}"


def _ms(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _count(value: float | None, missing: str) -> str:
    return missing if value is None else f"{value:,.0f}"
