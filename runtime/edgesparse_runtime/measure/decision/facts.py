"""Every figure of a decision's page, from a poc's result or a bundle: the page itself computes nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from edgesparse_runtime.measure.decision.energy import energy_facts
from edgesparse_runtime.measure.decision.latency import ENOUGH_FOR_P99
from edgesparse_runtime.measure.decision.words import in_points

SCHEMA = "edgesparse.report/1"
# Milliseconds, where the reader states none.
DEADLINE = 100.0
# What the fields of the return on investment start with: made up, and the page says so.
STREAMS, PRICE, WORK = 100, 1000, 2000
# Points of accuracy that noise may cost a bundle before the page warns; a poc states its margin.
FRAGILE = 3.0
MOST_CONFUSIONS, LARGEST_MATRIX = 10, 12


def poc_facts(result: dict[str, Any], deadline: float | None, watts: float | None = None) -> dict[str, Any]:
    """Facts of a poc's result (poc.json).

    Args:
        deadline: milliseconds from a window to its answer; None = `DEADLINE`.
        watts: of the machine at work, where its reader states them.
    """
    verdict, latency = result["verdict"], result["latency"]
    environment = latency["environment"]
    facts = _frame("poc", result["data"]["source"], deadline, environment)
    models = {
        name: _model(row, facts["deadline"], environment["usable_threads"])
        | {
            "points": in_points(verdict["models"][name]["difference"]),
            "state": verdict["models"][name]["state"],
            "needed": verdict["models"][name]["needed"],
        }
        for name, row in result["models"].items()
    }
    use, base = models[verdict["use"]], models[verdict["reference"]]
    gain = verdict["better"].get(verdict["use"])
    return {
        **facts,
        "command": result.get("command"),
        "data": result["data"],
        "verdict": {
            "use": verdict["use"],
            "why": verdict["why"],
            "reference": verdict["reference"],
            "fastest": verdict["fastest"],
            "margin": 100 * verdict["margin"],
            "gain": None if gain is None else in_points(gain),
            "has_bundle": verdict["has_bundle"],
        },
        "result": {"verdict": verdict, "models": result["models"], "data": result["data"]},
        "models": models,
        "class_count": len(result["data"]["classes"]),
        "compared": len(models),
        "seeds": len(result["plan"]["seeds"]),
        "seed_numbers": result["plan"]["seeds"],
        # Dense attention has nothing to be compared with but itself.
        "return": _returns(use["streams"], None if use is base else base["streams"]),
        "energy": energy_facts(models, verdict["use"], None if use is base else verdict["reference"], watts),
        "confusion": _confusion(result["data"]["classes"], use["confusion"]),
        "unknown": _unknown(use["unknown"]),
        "noise": 100 * result["noise"],
        "curve": {name: _curve(found) for name, found in result["curve"].items()},
        "dropped": result["dropped"],
        "left_out": result["left_out"],
        "failed": result["failed"],
        "settings": result["plan"]["settings"],
        "overrides": result["plan"]["overrides"],
        "length": latency["length"],
        "threads": latency["threads"],
    }


def bundle_facts(
    name: str,
    rows: Mapping[str, dict[str, Any]],
    latency: dict[str, Any],
    deadline: float | None,
    data: dict[str, Any],
    watts: float | None = None,
) -> dict[str, Any]:
    """Facts of one bundle.

    Args:
        rows: by precision, as a poc's `models` has them; the fastest is the one of the sentences.
        latency: as `time_bundles` gives it, with `environment`.
        data: of the labeled series that were given: `source`, `classes`, `test_series`.
        watts: of the machine at work, where its reader states them.
    """
    environment = latency["environment"]
    facts = _frame("bundle", name, deadline, environment)
    models = {p: _model(row, facts["deadline"], environment["usable_threads"]) for p, row in rows.items()}
    use = min(models, key=lambda precision: models[precision]["p50"])
    found = models[use]
    why = "bundle" if found["p99"] <= facts["deadline"] else "bundle_late"
    return {
        **facts,
        "data": data,
        "verdict": {
            "use": use,
            "margin": FRAGILE,
            "why": why if found["calls"] >= ENOUGH_FOR_P99 else f"{why}_few",
        },
        "models": models,
        "return": _returns(found["streams"], None),
        "energy": energy_facts(models, use, None, watts),
        "confusion": _confusion(data["classes"], found["confusion"]) if found["confusion"] else None,
        "unknown": _unknown(found["unknown"]),
        "noise": 5,
        "length": latency["length"],
        "threads": latency["threads"],
    }


def _frame(kind: str, source: str, deadline: float | None, environment: dict[str, Any]) -> dict[str, Any]:
    return {
        "kind": kind,
        "source": source,
        "deadline": DEADLINE if deadline is None else deadline,
        "deadline_is_assumed": deadline is None,
        "cores": environment["usable_threads"],
        "cpu": environment["cpu"],
        "system": environment["system"],
        "versions": environment["versions"],
    }


def _model(row: dict[str, Any], deadline: float, cores: int) -> dict[str, Any]:
    time: dict[str, Any] = row["latency"] or {}
    p99, slowest = time.get("p99"), time.get("max")
    on_time = None
    if p99 is not None and slowest is not None:
        late = "late_many" if time["calls"] >= ENOUGH_FOR_P99 else "late_few"
        on_time = late if p99 > deadline else "late_none" if slowest <= deadline else "late_some"
    share, noise = row["attention_share"], row["noise_costs"]
    return {
        "rung": row["rung"],
        "precision": row["precision"],
        "accuracy": row["accuracy"],
        "by_seed": row.get("by_seed", {}),
        "p50": time.get("p50"),
        "p99": p99,
        "max": slowest,
        "calls": time.get("calls"),
        "joules": time.get("joules"),
        "ratio": {key: time[key] for key in ("ratio", "low", "high")} if "ratio" in time else None,
        "on_time": on_time,
        "streams": None if p99 is None else math.floor(deadline / p99) * cores,
        "attention": share,
        "noise": None if noise is None else in_points(noise),
        "parameters": row["parameters"],
        "kilobytes": None if row["bytes"] is None else row["bytes"] / 1024,
        "train_seconds": row.get("train_seconds"),
        "bundle": row["bundle"],
        "sha256": row["sha256"],
        "int8_note": row.get("int8_note", ""),
        "confusion": row["confusion"],
        "unknown": row["unknown"],
    }


def _returns(use: int | None, dense: int | None) -> dict[str, Any]:
    """Machines and money for the streams that the fields start with; the page's script does the same."""
    found: dict[str, Any] = {"streams": STREAMS, "price": PRICE, "work": WORK, "per_machine": {}}
    for name, per_machine in (("dense", dense), ("use", use)):
        if per_machine is None:
            continue
        machines = math.ceil(STREAMS / per_machine) if per_machine else None
        found["per_machine"][name] = per_machine
        found[name] = {"machines": machines, "cost": None if machines is None else machines * PRICE}
    costs: list[Any] = [found.get(name, {}).get("cost") for name in ("dense", "use")]
    found["saved"] = None if None in costs else costs[0] - costs[1] - WORK
    return found


def _confusion(classes: list[str], counts: list[list[int]]) -> dict[str, Any]:
    """The whole matrix of few classes, and the most frequent confusions of any."""
    wrong: list[dict[str, Any]] = [
        {"true": classes[i], "taken": classes[j], "count": count}
        for i, row in enumerate(counts)
        for j, count in enumerate(row)
        if i != j and count
    ]
    wrong.sort(key=lambda found: -found["count"])
    is_small = len(classes) <= LARGEST_MATRIX
    return {
        "classes": classes,
        "matrix": counts if is_small else None,
        "top": wrong[:MOST_CONFUSIONS],
        "shown": min(len(wrong), MOST_CONFUSIONS),
    }


def _unknown(found: dict[str, Any] | None) -> dict[str, Any] | None:
    if found is None:
        return None
    kinds = {name: told["unknown"] for name, told in found["kinds"].items()}
    return {"refused": found["refused"], "n": found["n"], "kinds": kinds}


def _curve(found: dict[str, Any]) -> dict[str, Any]:
    gain = found["gain_of_doubling"]
    return {"points": found["points"], "gain": None if gain is None else in_points(gain)}
