"""A trace that chrome://tracing and Perfetto open: calls, modules and nodes, one above the other."""

from __future__ import annotations

from typing import Any

CALLS, MODULES, NODES = 1, 2, 3


def chrome_trace(events: list[dict[str, Any]], metadata: dict[str, Any]) -> dict[str, Any]:
    """Trace Event Format, from the events of `ModuleProfile`."""
    ordered = sorted(events, key=lambda e: e["ts"])
    origin = ordered[0]["ts"] if ordered else 0
    made: list[dict[str, Any]] = []
    for row, name in ((CALLS, "calls"), (MODULES, "modules"), (NODES, "nodes")):
        made.append({"ph": "M", "pid": 1, "tid": row, "name": "thread_name", "args": {"name": name}})
        made.append(
            {"ph": "M", "pid": 1, "tid": row, "name": "thread_sort_index", "args": {"sort_index": row}}
        )
    made.append({"ph": "M", "pid": 1, "name": "process_name", "args": {"name": "edgesparse"}})
    for key, row in (("call", CALLS), ("module", MODULES)):
        # Neighbors of the same call or module are one bar.
        for group in _neighbors(ordered, key):
            start, end = group[0]["ts"], max(e["ts"] + e["dur"] for e in group)
            label = f"call {group[0]['call'] + 1}" if key == "call" else group[0]["module"]
            made.append(_bar(label, row, start - origin, end - start, {"nodes": len(group)}))
    for event in ordered:
        details = {"operator": event["operator"], "module": event["module"]}
        made.append(_bar(event["name"], NODES, event["ts"] - origin, event["dur"], details))
    return {"traceEvents": made, "displayTimeUnit": "ms", "metadata": metadata}


def _neighbors(events: list[dict[str, Any]], key: str) -> list[list[dict[str, Any]]]:
    groups: list[list[dict[str, Any]]] = []
    for event in events:
        last = groups[-1][-1] if groups else None
        if last is not None and (last[key], last["call"]) == (event[key], event["call"]):
            groups[-1].append(event)
        else:
            groups.append([event])
    return groups


def _bar(name: str, row: int, start: float, length: float, details: dict[str, Any]) -> dict[str, Any]:
    return {"ph": "X", "pid": 1, "tid": row, "name": name, "ts": start, "dur": length, "args": details}
