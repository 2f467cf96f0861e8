"""Where a call's time goes, by PyTorch module: onnxruntime's profile, told in the names of the trained model.

onnxruntime fuses and renames nodes. What it made of the graph is read back, and each node is given the module
of the tensor that it produces; a node whose tensors are all new takes that of the first node after it that
has one.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgesparse_runtime.measure.inputs import Inputs
from edgesparse_runtime.measure.nodes import Node, read_nodes
from edgesparse_runtime.session import Session

ATTENTION = {"SparseAttention", "MultiHeadAttention"}
# Calls before the first that counts, and most that are kept for the Chrome trace.
WARMUP, TRACED = 3, 3


@dataclass(frozen=True)
class Module:
    """One row of the table.

    Attributes:
        name: of the PyTorch module; an attention operator is a row of its own, `<attention>.operator`.
        milliseconds: a call, median.
        share: of the sum of all rows.
        operators: what ran there, with how often a call.
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
    open_session: Callable[[Path], Session], original: bytes, inputs: Inputs, calls: int = 20
) -> ModuleProfile:
    """Trace `calls` calls of a session.

    Args:
        open_session: opens the model with its trace in the folder that it is given.
        original: the bytes of the model's file.
    """
    with tempfile.TemporaryDirectory(prefix="edgesparse-trace-") as name:
        session = open_session(Path(name))
        for _ in range(WARMUP + calls):
            session.predict(inputs.next(), batch_size=inputs.batch)
        events = json.loads(session.end_trace().read_text())
        made = read_nodes((Path(name) / "optimised.onnx").read_bytes())
        densities = block_densities(session, inputs) if session.is_sparse else {}
    modules = name_modules(read_nodes(original), made)
    runs = [e for e in events if e.get("name") == "model_run"][WARMUP : WARMUP + calls]
    nodes = [e for e in events if e.get("cat") == "Node" and e["name"].endswith("_kernel_time")]
    rows: dict[str, np.ndarray] = {}
    counts: dict[str, dict[str, float]] = {}
    kept: list[dict[str, Any]] = []
    starts = np.array([run["ts"] for run in runs])
    ends = np.array([run["ts"] + run["dur"] for run in runs])
    for event in nodes:
        call = int(np.searchsorted(starts, event["ts"], side="right")) - 1
        if call < 0 or event["ts"] > ends[call]:
            continue
        label = event["name"].removesuffix("_kernel_time")
        operator = event["args"].get("op_name", "")
        module = modules.get(label, "(unnamed)")
        rows.setdefault(module, np.zeros(len(runs)))[call] += event["dur"]
        count = counts.setdefault(module, {})
        count[operator] = count.get(operator, 0) + 1 / len(runs)
        if call >= len(runs) - TRACED:
            kept.append(
                {
                    "name": label,
                    "module": module,
                    "operator": operator,
                    "ts": event["ts"],
                    "dur": event["dur"],
                    "call": call,
                }
            )
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


def name_modules(original: list[Node], made: list[Node]) -> dict[str, str]:
    """The module of each node of `made`, by node name."""
    of_tensor = {
        tensor: _label(node) for node in original for tensor in node.outputs if node.module is not None
    }
    readers: dict[str, list[Node]] = {}
    for node in made:
        for tensor in node.inputs:
            readers.setdefault(tensor, []).append(node)
    found: dict[str, str] = {}

    # Backwards through a topological order, each reader is known before what it reads from.
    for node in reversed(made):
        own = next((of_tensor[t] for t in node.outputs if t in of_tensor), None)
        if own is None:
            own = next(
                (found[r.name] for t in node.outputs for r in readers.get(t, ()) if r.name in found), None
            )
        found[node.name] = own or node.module or "(unnamed)"
    return found


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


def _label(node: Node) -> str:
    assert node.module is not None
    return f"{node.module}.operator" if node.operator in ATTENTION else node.module
