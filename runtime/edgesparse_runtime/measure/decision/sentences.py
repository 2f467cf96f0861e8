"""The verdict of a poc in one sentence."""

from __future__ import annotations

from typing import Any

NAMES = {
    "dense": "the dense model",
    "sparse-90": "the model with 10 % less attention compute",
    "sparse-70": "the model with 30 % less attention compute",
    "sparse-30": "the model with 70 % less attention compute",
    "small": "the small model",
    "multirocket-hydra": "MultiRocket-Hydra",
}


def in_one_sentence(result: dict[str, Any]) -> str:
    """Which model to use and why, with the figures that it rests on."""
    verdict = result["verdict"]
    use = verdict["use"]
    row, found = result["models"][use], verdict["models"][use]
    name = NAMES[row["rung"]] + ("" if row["precision"] == "float32" else " in int8")
    why = verdict["why"]
    if why == "fastest":
        d, t = found["difference"], row["latency"]
        return (
            f"Use {name}: {t['ratio']:.2f}x as fast as dense float32 here, and its accuracy is at most "
            f"{100 * verdict['margin']:g} points lower ({_points(d)})."
        )
    if why == "better":
        d = verdict["better"][use]
        other = result["models"][verdict["fastest"]]
        return f"Use {name}: its accuracy is {_points(d)} above that of {NAMES[other['rung']]}."
    if why == "dense is fastest":
        return "Use the dense model: others are as accurate, and none is faster on this machine."
    return (
        f"Use the dense model: of no other model do these {result['data']['test_series']} test series show "
        f"that it loses at most {100 * verdict['margin']:g} points of accuracy."
    )


def _points(share: dict[str, Any]) -> str:
    return f"{100 * share['value']:+.1f} points [{100 * share['low']:+.1f}, {100 * share['high']:+.1f}]"
