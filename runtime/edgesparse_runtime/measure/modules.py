"""Where a call's time goes, by PyTorch module: onnxruntime's profile, in the names of the trained model.

onnxruntime fuses and renames nodes. What it made of the graph is read back, and each node is given the module
of the tensor that it produces; a node whose tensors are all new takes that of the first node after it that
has one.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgesparse_runtime.measure.inputs import Inputs
from edgesparse_runtime.measure.nodes import Node, read_nodes
from edgesparse_runtime.session import Session

ATTENTION = {"SparseAttention", "WindowAttention", "MultiHeadAttention"}
# Calls before the first that counts, and most that are kept for the Chrome trace.
WARMUP, TRACED = 3, 3
# Share of a call's median that the sum of the table may differ from it by.
MOST_APART = 0.3


@dataclass(frozen=True)
class Module:
    """One row of the table.

    Attributes:
        name: of the PyTorch module; an attention operator has its own row, `<attention>.operator`.
        milliseconds: median per call.
        share: of the sum of all rows.
        operators: what ran there, with runs per call.
        density: share of the reachable blocks that the operator attended to; None for other rows.
    """

    name: str
    milliseconds: float
    share: float
    operators: dict[str, float]
    density: float | None = None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class ModuleProfile:
    """The table, the events of a few calls, and what tracing itself cost.

    Attributes:
        modules: by falling time.
        calls: how many were traced.
        traced_ms: median of a traced call.
        events: of the last calls: name, module, operator, start and duration in microseconds, call.
    """

    modules: list[Module]
    calls: int
    traced_ms: float
    events: list[dict[str, Any]]


def profile_modules(
    open_session: Callable[[Path], Session],
    original: bytes,
    inputs: Inputs,
    *,
    float32: bytes | None = None,
    calls: int = 20,
) -> ModuleProfile:
    """Trace `calls` calls of a session.

    Args:
        open_session: opens the model with its trace in the folder that it is given.
        original: the bytes of the model's file.
        float32: those of the file that it was quantized from, which knows more names.
    """
    with tempfile.TemporaryDirectory(prefix="edgesparse-trace-") as name:
        session = open_session(Path(name))
        for _ in range(WARMUP + calls):
            session.predict(inputs.next(), batch_size=inputs.batch)
        events = json.loads(session.end_trace().read_text("utf-8"))
        made = read_nodes((Path(name) / "optimized.onnx").read_bytes())
        densities = block_densities(session, inputs) if session.is_sparse else {}
    modules = name_modules(read_nodes(original), made, read_nodes(float32) if float32 else ())
    runs = [e for e in events if e.get("name") == "model_run"][WARMUP : WARMUP + calls]
    nodes = [e for e in events if e.get("cat") == "Node" and e["name"].endswith("_kernel_time")]
    nodes.sort(key=lambda e: e["ts"])
    starts = np.array([e["ts"] for e in nodes])
    rows: dict[str, np.ndarray] = {}
    counts: dict[str, dict[str, float]] = {}
    kept: list[dict[str, Any]] = []
    for call, run in enumerate(runs):
        first, last = np.searchsorted(starts, [run["ts"], run["ts"] + run["dur"]])
        inside = nodes[first:last]
        for event, module in zip(inside, match_events(inside, made, modules), strict=True):
            operator = event["args"].get("op_name", "")
            rows.setdefault(module, np.zeros(len(runs)))[call] += event["dur"]
            count = counts.setdefault(module, {})
            count[operator] = count.get(operator, 0) + 1 / len(runs)
            if call >= len(runs) - TRACED:
                place = {"name": _name(event), "module": module, "operator": operator, "call": call}
                kept.append(place | {"ts": event["ts"], "dur": event["dur"]})
    spent = {name: float(np.median(row)) / 1e3 for name, row in rows.items()}
    whole = sum(spent.values()) or 1.0
    table = [
        Module(
            name,
            milliseconds,
            milliseconds / whole,
            {operator: round(n, 2) for operator, n in sorted(counts[name].items())},
            densities.get(name),
        )
        for name, milliseconds in spent.items()
    ]
    table.sort(key=lambda m: -m.milliseconds)
    return ModuleProfile(table, len(runs), float(np.median([r["dur"] for r in runs])) / 1e3, kept)


def name_modules(original: list[Node], made: list[Node], float32: Sequence[Node] = ()) -> list[str]:
    """The module of each node of `made`, in their order.

    A node is known by a tensor that it produces, else by its own name, both in the file and in the float32
    file that it was quantized from; else it is counted to the first node after it that is known, else to the
    one before it.
    """
    names: dict[str, str] = {}
    tensors: dict[str, str] = {}
    for nodes in (float32, original):
        behind: dict[str, str] = {}
        for node in nodes:
            before = next((behind[t] for t in node.inputs if t in behind), None)
            module = node.module or names.get(node.name) or before
            if module is None:
                continue
            names[node.name] = module
            label = f"{module}.operator" if node.operator in ATTENTION else module
            behind |= dict.fromkeys(node.outputs, module)
            # A name from the float32 file takes precedence over a guess.
            tensors = dict.fromkeys(node.outputs, label) | tensors
    readers: dict[str, list[int]] = {}
    for i, node in enumerate(made):
        for tensor in node.inputs:
            readers.setdefault(tensor, []).append(i)
    found: list[str | None] = [None] * len(made)
    # Backwards through a topological order, each reader is known before what it reads from.
    for i, node in reversed(list(enumerate(made))):
        own = next((tensors[t] for t in node.outputs if t in tensors), None) or names.get(node.name)
        after = (found[r] for t in node.outputs for r in readers.get(t, ()) if found[r] is not None)
        found[i] = own or node.module or next(after, None)
    before_it: dict[str, str] = {}
    named: list[str] = []
    for node, guess in zip(made, found, strict=True):
        known = (before_it[t] for t in node.inputs if t in before_it)
        named.append(guess or next(known, "(unnamed)"))
        before_it |= dict.fromkeys(node.outputs, named[-1])
    return named


def match_events(events: list[dict[str, Any]], made: list[Node], modules: list[str]) -> list[str]:
    """The module of each event of one call.

    Nodes of a function body have no names; where a call's events are the graph's nodes in order,
    as they are when nodes run one after the other, their place tells which is which.
    """
    if [e["args"].get("op_name") for e in events] == [node.operator for node in made]:
        return modules
    by_name = {node.name: module for node, module in zip(made, modules, strict=True) if node.name}
    return [by_name.get(_name(event), "(unnamed)") for event in events]


def _name(event: dict[str, Any]) -> str:
    return str(event["name"]).removesuffix("_kernel_time")


def doubt(modules: Sequence[Module], p50: float) -> str:
    """Why the table's milliseconds are not to be trusted, in words; empty when they fit the latency.

    The table is measured after the latency, and under the profiler: on a busy machine the two are of
    different moments, and on a small model writing events down costs as much as the nodes themselves.
    """
    whole = sum(m.milliseconds for m in modules)
    if abs(whole - p50) <= MOST_APART * p50:
        return ""
    return (
        f"the rows add up to {whole:.2f} ms, but a call took {p50:.2f} ms: the rows were measured later, "
        "under the profiler. Trust the shares, and measure again when the machine is idle."
    )


def block_densities(session: Session, inputs: Inputs) -> dict[str, float]:
    """Share of the blocks within reach that each attention operator attended to, by module row."""
    names = session.bundle.manifest.get("attention", {}).get("layers", []) if session.bundle else []
    causal = bool(session.bundle and session.bundle.manifest.get("attention", {}).get("causal"))
    totals: dict[int, list[float]] = {}
    for _ in range(4):
        for i, kept in enumerate(session.selections(inputs.next())):
            reach = np.tril(np.ones(kept.shape[-2:], bool)) if causal else np.ones(kept.shape[-2:], bool)
            totals.setdefault(i, []).append(float(kept[..., reach].mean()))
    return {
        f"{names[i] if i < len(names) else f'layer {i}'}.operator": float(np.mean(values))
        for i, values in totals.items()
    }
