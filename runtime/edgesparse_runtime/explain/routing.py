"""The routing record: which blocks of time each layer and head attended to, and why each was kept.

Exact: the model itself outputs its router's scores and its selection in the run that predicts. It says what
was computed, not why the model decided. Shapes: `H` heads, `Q`/`K` query and key blocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from edgesparse_runtime.arrays import BoolArray, FloatArray, IndexArray
from edgesparse_runtime.model_check.limits import limits_of
from edgesparse_runtime.model_check.parse import Parser, Record
from edgesparse_runtime.model_check.write import write_message
from edgesparse_runtime.onnx_model import OnnxModel
from edgesparse_runtime.session import Session

# Why a block was kept.
DIAGONAL, WINDOW, SHARE = "diagonal", "window", "share"
# What ended the selection of a query block.
TOP_P, MAX_BLOCKS, NOTHING_LEFT = "top_p", "max_blocks", "nothing left"
_OPERATOR, _BANK, _DOMAIN = "SparseAttention", "FilterBank", "edgesparse"
# Positions of the operator's inputs and outputs (docs/reference/operator.md).
_SCORES, _TOP_P, _MAX_BLOCKS, _SELECTION = 3, 4, 5, 1
_FLOAT, _INT64, _BOOL = 1, 7, 9
NO_ATTENTION = "This model has no sparse attention, so there is no routing to record."
DENSE_TWIN = (
    "This window ran through the bundle's dense twin, which attends to every block. Choose --attention "
    "sparse to see the sparse model."
)


@dataclass(frozen=True)
class LayerRouting:
    """One layer's routing of one window.

    Attributes:
        name: of the layer.
        scores: of the router, [H, Q, K].
        kept: the blocks attended to, [H, Q, K].
        top_p: share of the router's mass that was to be kept, [H].
        max_blocks: most blocks per query block.
        window: blocks on each side that are always kept.
        is_causal: blocks of the future cannot be attended to.
        has_summaries: a dropped block still takes part as one summary token.
    """

    name: str
    scores: FloatArray
    kept: BoolArray
    top_p: FloatArray
    max_blocks: int
    window: int
    is_causal: bool
    has_summaries: bool

    @cached_property
    def reach(self) -> BoolArray:
        """Blocks that a query block may attend to, [Q, K]."""
        reach = np.ones(self.kept.shape[1:], dtype=np.bool_)
        return np.tril(reach) if self.is_causal else reach

    @cached_property
    def shares(self) -> FloatArray:
        """Of the router's mass, [H, Q, K]."""
        scores = np.where(self.reach, np.nan_to_num(self.scores, nan=-np.inf), -np.inf)
        top = scores.max(axis=-1, keepdims=True)
        weight = np.exp(scores - np.where(np.isfinite(top), top, 0.0))
        return np.asarray(weight / np.maximum(weight.sum(axis=-1, keepdims=True), 1e-30), dtype=np.float32)

    @cached_property
    def ranks(self) -> IndexArray:
        """Place of each block by falling share, from 1; ties go to the lower index. [H, Q, K]."""
        order = np.argsort(-self.shares, axis=-1, kind="stable")
        return np.asarray(np.argsort(order, axis=-1) + 1, dtype=np.int64)

    @cached_property
    def in_window(self) -> BoolArray:
        """Blocks that are kept whatever the router says, [Q, K]."""
        queries, keys = np.indices(self.reach.shape)
        return np.asarray((abs(queries - keys) <= self.window) & self.reach)

    @cached_property
    def by_share(self) -> BoolArray:
        """Kept blocks that the router chose, [H, Q, K]."""
        return self.kept & ~self.in_window

    @cached_property
    def dropped(self) -> BoolArray:
        """Reachable blocks that were not attended to, [H, Q, K]."""
        return self.reach & ~self.kept

    @property
    def left(self) -> FloatArray:
        """Share of the router's mass that went to summaries, or was lost without them, [H, Q]."""
        return np.asarray(np.where(self.dropped, self.shares, 0.0).sum(axis=-1))

    @property
    def margins(self) -> FloatArray:
        """Share of the last block that the router chose, less that of the first it dropped, [H, Q].

        NaN where the router chose none or dropped none.
        """
        last = np.where(self.by_share, self.shares, np.inf).min(axis=-1)
        first = np.where(self.dropped, self.shares, -np.inf).max(axis=-1)
        return np.where(np.isfinite(last) & np.isfinite(first), last - first, np.nan).astype(np.float32)

    @property
    def density(self) -> FloatArray:
        """Share of the reachable blocks that each head attended to, [H]."""
        return np.asarray(self.kept.sum(axis=(1, 2)) / max(1, int(self.reach.sum())))

    @property
    def attended(self) -> FloatArray:
        """Share of the query blocks that attended to each block from elsewhere, over all heads, [K]."""
        others = self.reach & ~np.eye(*self.reach.shape, dtype=np.bool_)
        found = (self.kept & others).sum(axis=(0, 1)) / np.maximum(1, others.sum(axis=0) * len(self.kept))
        return np.asarray(found, dtype=np.float32)

    def reason(self, query: int, key: int) -> str:
        """Why a kept block was kept."""
        if query == key:
            return DIAGONAL
        return WINDOW if self.in_window[query, key] else SHARE

    def end(self, head: int, query: int) -> str:
        """What ended the selection of a query block."""
        if not self.dropped[head, query].any():
            return NOTHING_LEFT
        return MAX_BLOCKS if self.kept[head, query].sum() >= self.max_blocks else TOP_P

    def to_dict(self) -> dict[str, Any]:
        """Every kept block with its reason, and totals per head."""
        left, margins, density = self.left, self.margins, self.density
        heads = []
        for head in range(len(self.kept)):
            queries = [
                {
                    "block": query,
                    "kept": [self._kept(head, query, int(key)) for key in np.flatnonzero(row)],
                    "end": self.end(head, query),
                    "margin": None if np.isnan(margins[head, query]) else _round(margins[head, query]),
                    "left": {
                        "blocks": int(self.dropped[head, query].sum()),
                        "share": _round(left[head, query]),
                    },
                }
                for query, row in enumerate(self.kept[head])
            ]
            heads.append(
                {
                    "top_p": _round(self.top_p[head]),
                    "density": _round(density[head]),
                    "left_share": _round(left[head].mean()),
                    "reasons": self._reasons(head),
                    "margin": None if np.isnan(margins[head]).all() else _round(np.nanmin(margins[head])),
                    "queries": queries,
                }
            )
        return {
            "name": self.name,
            "max_blocks": self.max_blocks,
            "window": self.window,
            "summaries": self.has_summaries,
            "causal": self.is_causal,
            "density": _round(density.mean()),
            "attended": [_round(x) for x in self.attended],
            "heads": heads,
        }

    def _reasons(self, head: int) -> dict[str, int]:
        """How many blocks were kept for each reason."""
        diagonal = np.eye(*self.reach.shape, dtype=np.bool_)
        kept = self.kept[head]
        return {
            DIAGONAL: int((kept & diagonal).sum()),
            WINDOW: int((kept & self.in_window & ~diagonal).sum()),
            SHARE: int(self.by_share[head].sum()),
        }

    def _kept(self, head: int, query: int, key: int) -> dict[str, Any]:
        return {
            "block": key,
            "reason": self.reason(query, key),
            "share": _round(self.shares[head, query, key]),
            "rank": int(self.ranks[head, query, key]),
        }


@dataclass(frozen=True)
class Routing:
    """The routing of one window.

    Attributes:
        layers: in the model's order.
        starts: first step of each block.
        ends: one past its last step.
        scores: of the run that was recorded.
    """

    layers: tuple[LayerRouting, ...]
    starts: tuple[int, ...]
    ends: tuple[int, ...]
    scores: FloatArray

    @property
    def attended(self) -> FloatArray:
        """Share of the query blocks that attended to each block from elsewhere, mean over the layers, [K]."""
        return np.asarray(np.mean([layer.attended for layer in self.layers], axis=0))

    def per_step(self) -> FloatArray:
        """`attended` of the block that each step lies in."""
        lengths = np.subtract(self.ends, self.starts)
        return np.asarray(np.repeat(self.attended, lengths))

    def to_dict(self) -> dict[str, Any]:
        blocks = [{"start": a, "end": b} for a, b in zip(self.starts, self.ends, strict=True)]
        return {
            "blocks": blocks,
            "attended": [_round(x) for x in self.attended],
            "layers": [layer.to_dict() for layer in self.layers],
        }


class Recorder:
    """Runs a session's model with its router's scores and selection as outputs.

    Args:
        session: with sparse attention (`has_routing`).
    """

    def __init__(self, session: Session) -> None:
        content = session.read_model()
        record = Parser(limits_of(len(content))).parse(memoryview(content), "Model")
        graph = record["graph"]
        nodes = [n for n in graph["node"] if _is_ours(n, _OPERATOR)]
        bank = next((n for n in graph["node"] if _is_ours(n, _BANK)), None)
        self.patch = 1 if bank is None else _integer(bank, "patch", 1)
        self._attributes = nodes
        self._names = [_wanted(node) for node in nodes]
        known = {value.get("name") for value in graph["output"]}
        for names in self._names:
            for name, kind in zip(names, (_FLOAT, _FLOAT, _INT64, _BOOL), strict=True):
                if name not in known:
                    known.add(name)
                    graph["output"].append({"name": name, "type": {"tensor_type": {"elem_type": kind}}})
        # What is the same in every run is read once: an output costs time.
        self._outputs = ["scores", *(names[i] for names in self._names for i in (0, 3))]
        self._knobs: dict[str, Any] = {}
        self._model = OnnxModel(
            write_message(record, "Model"),
            Path(session.path),
            threads=session.threads,
            engine="native" if session.engine.startswith("native") else "body",
        )
        self._model.knobs = session.knobs
        self._layers = _layer_names(session, len(nodes))

    def run(self, window_CT: FloatArray) -> Routing:
        """Predict one window, without padding at its end, and record its routing."""
        batch = window_CT[None]
        if not self._knobs:
            names = list(dict.fromkeys(name for names in self._names for name in names[1:3]))
            self._knobs = dict(
                zip(names, self._model.run(names, {"window": batch}, batch.shape), strict=True)
            )
        values = self._model.run(self._outputs, {"window": batch}, batch.shape)
        found = dict(zip(self._outputs, values, strict=True)) | self._knobs
        layers = tuple(
            LayerRouting(
                name,
                found[names[0]][0],
                np.asarray(found[names[3]][0], dtype=np.bool_),
                np.broadcast_to(found[names[1]], len(found[names[0]][0])),
                int(found[names[2]].ravel()[0]),
                _integer(node, "window", 0),
                bool(_integer(node, "is_causal", 0)),
                bool(_integer(node, "summaries", 1)),
            )
            for name, node, names in zip(self._layers, self._attributes, self._names, strict=True)
        )
        step = self.patch * _integer(self._attributes[0], "block_size", 1)
        blocks, steps = layers[0].kept.shape[-1], window_CT.shape[1]
        starts = tuple(min(i * step, steps) for i in range(blocks))
        return Routing(layers, starts, (*starts[1:], steps), found["scores"][0])


def has_routing(session: Session) -> bool:
    """Whether the model has sparse attention over windows."""
    return session.is_sparse and not session.takes_tensors


def _layer_names(session: Session, count: int) -> Sequence[str]:
    listed = [] if session.bundle is None else list(session.bundle.manifest["attention"].get("layers") or ())
    return [str(x) for x in listed] if len(listed) == count else [f"layer {i}" for i in range(count)]


def _wanted(node: Record) -> tuple[str, str, str, str]:
    """Scores, top_p, max_blocks and selection of an attention node."""
    inputs = node["input"]
    return inputs[_SCORES], inputs[_TOP_P], inputs[_MAX_BLOCKS], node["output"][_SELECTION]


def _is_ours(node: Record, operator: str) -> bool:
    return bool(node.get("domain") == _DOMAIN and node.get("op_type") == operator)


def _integer(node: Record, name: str, default: int) -> int:
    found: Record = next((a for a in node.get("attribute", ()) if a.get("name") == name), {})
    return int(found.get("i", default))


def _round(value: Any) -> float:
    return round(float(value), 5)
