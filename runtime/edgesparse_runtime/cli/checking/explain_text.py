"""An explanation on a terminal: the tables of its result, in the order in which the page has them."""

from __future__ import annotations

from typing import Any

from edgesparse_runtime.cli.output import print_fields, print_table

_MOST_SEGMENTS = 6
NOT_WHY = "What the model computed, not why it decided."
DO_NOT_RELY = "Do not rely on this map."


def print_window(result: dict[str, Any]) -> None:
    """One window's explanation."""
    scores = sorted(result["scores"].items(), key=lambda item: -item[1])
    head = {"window": f"{result['index']}" + (f" ({result['id']})" if result.get("id") else "")}
    if result.get("label"):
        head["label"] = result["label"]
    head["scores" if result["predicted"] else "outputs"] = ", ".join(f"{n} {v:.4g}" for n, v in scores[:3])
    print_fields(head)
    _print_influence(result)
    _print_routing(result)
    print("\nHow far to believe it")
    trust = result["trust"]
    print(f"  {order_sentence(trust)}")
    if not trust["holds"]:
        print(f"  {DO_NOT_RELY}")
    if result["agreement"] is not None:
        print(f"  {agreement_sentence(result['agreement'])}")
    if result["nearest"] is not None:
        print(f"\nWhat would have to be different\n  {nearest_sentence(result['nearest'])}")


def print_set(result: dict[str, Any]) -> None:
    """What a model looks at in a set."""
    print_fields({"windows": f"{result['windows']} of {result['total']}"})
    for found in result["classes"]:
        print(f"\n{found['name'] or 'all windows'}: {found['windows']} windows")
        order = sorted(range(result["places"]), key=lambda i: -found["share"][i])[:_MOST_SEGMENTS]
        rows = [
            [place(i, result["places"]), f"{found['share'][i]:.0%}", f"{found['influence'][i]:+.3g}"]
            + ([f"{found['attended'][i]:.0%}"] if found["attended"] else [])
            for i in sorted(order)
        ]
        print_table(
            ["part of the window", "share", "influence", *(["attended"] if found["attended"] else [])], rows
        )
        if found["channels"]:
            shares = zip(result["channels"], found["channel_share"], strict=True)
            print("channels: " + ", ".join(f"{n} {v:.0%}" for n, v in sorted(shares, key=lambda x: -x[1])))
    print(f"\n{never_sentence(result)}")
    if result["routing_note"]:
        print(result["routing_note"])
    print(f"\n{set_sentence(result['trust'])}")
    if not result["reliable"]:
        print(DO_NOT_RELY)
    if result["routing_trust"] is not None:
        mean = result["agreement"]["mean"]
        rank = "" if mean is None else f" Rank correlation with influence: {mean:+.2f}."
        print(f"The order of routing: {interval(result['routing_trust'])} above random orders.{rank}")


def _print_influence(result: dict[str, Any]) -> None:
    # Of two classes, against the other one is against all others.
    found = result["influence"]
    against = result["against"] if len(result["scores"]) > 2 else None
    print(f"\nWhat moved the score ({found['predictions']} predictions; {result['unit']}, + speaks for it)")
    without = f"{result['predicted']} without it" if result["predicted"] else "output without it"
    head = ["steps", "influence", *([f"against {against}"] if against else []), without]
    order = sorted(range(len(found["segments"])), key=lambda i: -found["segments"][i]["influence"])
    # What speaks for it, and what speaks most against it.
    order = order if len(order) <= _MOST_SEGMENTS else order[: _MOST_SEGMENTS - 2] + order[-2:]
    print_table(
        head,
        [_row(f"{s['start']}-{s['end'] - 1}", s, against) for s in (found["segments"][i] for i in order)],
    )
    if found["channels"]:
        print()
        channels = sorted(found["channels"], key=lambda c: -abs(c["influence"]))
        print_table(["channel", *head[1:]], [_row(c["name"], c, against) for c in channels])


def _row(name: str, part: dict[str, Any], against: str | None) -> list[str]:
    return [
        name,
        f"{part['influence']:+.3g}",
        *([] if against is None else [f"{part['influence_against']:+.3g}"]),
        f"{part['score_without']:.3g}",
    ]


def _print_routing(result: dict[str, Any]) -> None:
    print("\nWhat was attended to")
    routing = result["routing"]
    if routing is None:
        print(f"  {result['routing_note']}")
        return
    print(f"  {NOT_WHY}")
    rows = [
        [
            layer["name"],
            head,
            f"{h['density']:.0%}",
            f"{h['left_share']:.0%}",
            *h["reasons"].values(),
            "-" if h["margin"] is None else f"{h['margin']:.2g}",
        ]
        for layer in routing["layers"]
        for head, h in enumerate(layer["heads"])
    ]
    left = "to summaries" if routing["layers"][0]["summaries"] else "dropped"
    print_table(["layer", "head", "blocks", left, "diagonal", "window", "share", "smallest margin"], rows)
    order = sorted(range(len(routing["blocks"])), key=lambda i: -routing["attended"][i])[:3]
    most = [
        f"{routing['blocks'][i]['start']}-{routing['blocks'][i]['end'] - 1} "
        f"({routing['attended'][i]:.0%} of the other blocks)"
        for i in order
    ]
    print(f"  Most attended steps: {', '.join(most)}")


def interval(found: dict[str, Any]) -> str:
    """A difference with its interval."""
    mean = found["mean"] if "mean" in found else found["difference"]
    if mean is None or found["low"] is None:
        return "not measurable"
    return f"{mean:+.3f} [{found['low']:+.3f}, {found['high']:+.3f}]"


def order_sentence(trust: dict[str, Any]) -> str:
    """How one window's order did against random ones."""
    verdict = "better than random" if trust["holds"] else "not better than random"
    return (
        "Taking away the quarter of the window that the map names first moves the scores by "
        f"{trust['own']:.3f}; in {trust['orders']} random orders by {trust['random']:.3f}. Difference "
        f"{interval(trust)}: {verdict}."
    )


def agreement_sentence(agreement: dict[str, Any]) -> str:
    """Routing beside influence."""
    rank = agreement["correlation"]
    beside = (
        "cannot be ranked" if rank is None else f"agrees with influence by a rank correlation of {rank:+.2f}"
    )
    better = "better than random" if agreement["routing"]["holds"] else "not better than random"
    return (
        f"Routing {beside} over {agreement['blocks']} blocks; its own order is {better}: "
        f"{interval(agreement['routing'])}."
    )


def nearest_sentence(nearest: dict[str, Any]) -> str:
    """The nearest window of the other class, and what of it suffices."""
    start = (
        f"The nearest training window that the model calls {nearest['class']} is row {nearest['row']}, "
        f"{nearest['distance']:.2f} spreads away."
    )
    if nearest["suffices"] is None:
        return f"{start} Even with half of the segments taken from it, the decision stays."
    steps = ", ".join(f"{s['start']}-{s['end'] - 1}" for s in nearest["suffices"])
    return f"{start} With steps {steps} taken from it, the model decides for {nearest['class']}."


def never_sentence(result: dict[str, Any]) -> str:
    """What nothing looks at."""
    never = result["never"]
    parts = [place(i, result["places"]) for i in never["places"]]
    found = []
    if parts:
        found.append(f"parts of the window that move no score: {', '.join(parts)}")
    if never["channels"]:
        found.append(f"channels: {', '.join(never['channels'])}")
    if never["attended"]:
        found.append(f"never attended to: {', '.join(place(i, result['places']) for i in never['attended'])}")
    return f"Never looked at: {'; '.join(found)}." if found else "Every part of the window moves some score."


def set_sentence(trust: dict[str, Any]) -> str:
    """How the orders of a set did."""
    verdict = "better than random" if trust["holds"] else "not better than random"
    return (
        f"The order of influence is {interval(trust)} above random orders in {trust['windows']} windows: "
        f"{verdict}."
    )


def place(index: int, places: int) -> str:
    """A part of a window, as shares of its length."""
    return f"{index / places:.0%}-{(index + 1) / places:.0%}"
