"""Which nodes to quantize: each is tried alone, then those that cost too much stay in float32.

The search keeps a deadline and always ends with the best that it has found: the recipe with the fewest nodes
in float32 that passes the gate.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from edgesparse_export.quantize.gate import Change, QuantizationGate
from edgesparse_export.quantize.recipe import Int8Recipe
from edgesparse_runtime.evaluation.bootstrap import bootstrap_interval
from edgesparse_runtime.session import Session

FloatArray = npt.NDArray[np.float32]
# Windows that a single node is tried on; the gate itself uses all of them.
SAMPLE = 32
# Rounds of a node's timing: enough that a saving of one percent shows on a quiet machine.
LEAST_ROUNDS, MOST_ROUNDS = 5, 40
Say = Callable[[str], None]


@dataclass(frozen=True)
class NodeEffect:
    """One node alone in int8.

    Attributes:
        name: of the node.
        kind: "linear" or "attention".
        score_change: mean absolute change of the scores.
        flipped: decisions changed, of `windows`.
        saved_ms: median time saved per call; None = there was no time to measure it.
        low: lower end of its 95 % interval.
        high: upper end.
        windows: n of the first two.
    """

    name: str
    kind: str
    score_change: float
    flipped: int
    saved_ms: float | None
    low: float | None
    high: float | None
    windows: int

    def to_dict(self) -> dict[str, Any]:
        return {k: round(v, 7) if isinstance(v, float) else v for k, v in vars(self).items()}

    @property
    def gains_nothing(self) -> bool:
        """int8 was measured and is clearly no faster here: the whole interval lies at or below zero."""
        return self.high is not None and self.high <= 0


@dataclass(frozen=True)
class Found:
    """What the search ends with.

    Attributes:
        recipe: the best that passes the gate; None where none does.
        content: its model.
        change: what it changes.
        ranking: every node tried, the most harmful first.
        tried: models measured on all data.
        complete: False when the time ran out.
    """

    recipe: Int8Recipe | None
    content: bytes | None
    change: Change | None
    ranking: list[NodeEffect]
    tried: int
    complete: bool


class Search:
    """One search over a model.

    Args:
        model: the float32 model.
        recipe: how to quantize; its float32 nodes stay out in any case.
        windows: to observe ranges on, each [channels, time]; static mode only.
        gate: measures a model on all data, and decides.
        deadline: `time.monotonic()` at which to end.
        say: progress.
    """

    def __init__(
        self,
        model: onnx.ModelProto,
        recipe: Int8Recipe,
        windows: Iterable[FloatArray] | None,
        gate: QuantizationGate,
        deadline: float,
        say: Say,
    ) -> None:
        self.model, self.recipe, self.gate = model, recipe, gate
        self.windows = None if windows is None else list(windows)
        self.deadline, self.say = deadline, say
        self.before = gate.float_session()
        self.tried = 0

    def build(self, keep: Iterable[str]) -> tuple[Int8Recipe, bytes]:
        """The model with these nodes, and those of the recipe, in float32."""
        kept = [n for n in self.recipe.nodes(self.model) if n in set(keep) | set(self.recipe.float32)]
        recipe = replace(self.recipe, float32=tuple(kept))
        content: bytes = recipe.apply(self.model, self.windows).SerializeToString()
        return recipe, content

    def run(self) -> Found:
        """Rank, then leave out node after node until the gate is passed."""
        ranking = self.rank()
        useless = [e.name for e in ranking if e.gains_nothing]
        harmful = [e.name for e in ranking if not e.gains_nothing]
        if not harmful:
            # No node alone gains here; together they may, and there is nothing better to try.
            useless, harmful = [], useless
        best: tuple[Int8Recipe, bytes, Change] | None = None
        # Of the most harmful nodes so many in float32: `failed` is too few, `held` is enough.
        failed, held, count = -1, len(harmful), 0
        # Twice as many each time until the gate is passed; the first is tried whatever the time.
        while count < len(harmful) and (count == 0 or not self._is_late()):
            attempt = self._attempt(useless + harmful[:count])
            if self.gate.holds(attempt[2]):
                best, held = attempt, count
                break
            failed = count
            count = len(harmful) - 1 if count < len(harmful) - 1 < 2 * count else max(1, 2 * count)
        while best is not None and held - failed > 1 and not self._is_late():
            middle = (failed + held) // 2
            attempt = self._attempt(useless + harmful[:middle])
            if self.gate.holds(attempt[2]):
                best, held = attempt, middle
            else:
                failed = middle
        complete = not self._is_late()
        if best is None:
            return Found(None, None, None, ranking, self.tried, complete)
        return Found(*best, ranking, self.tried, complete)

    def rank(self) -> list[NodeEffect]:
        """Every node alone in int8, the most harmful first; nodes that there is no time for are left out."""
        nodes = [n for n in self.recipe.nodes(self.model) if n not in self.recipe.float32]
        linear = {n.name for n in self.model.graph.node if n.op_type in ("MatMul", "Gemm")}
        windows = self._sample()
        expected = self.before.predict(windows)
        effects: list[NodeEffect] = []
        models: dict[str, Session] = {}
        for i, name in enumerate(nodes):
            if self._is_late():
                break
            self.say(f"node {i + 1} of {len(nodes)}: {name}")
            _, content = self.build(n for n in nodes if n != name)
            session = Session("node.onnx", content=content, threads=self.before.threads)
            actual = session.predict(windows)
            models[name] = session
            flipped = int((actual.argmax(-1) != expected.argmax(-1)).sum()) if expected.shape[1] > 1 else 0
            change = float(np.abs(actual - expected).mean())
            kind = "linear" if name in linear else "attention"
            effects.append(NodeEffect(name, kind, change, flipped, None, None, None, len(windows)))
        effects = [self._timed(effect, models[effect.name], windows, len(effects)) for effect in effects]
        return sorted(effects, key=lambda e: (-e.score_change, e.name))

    def _timed(
        self, effect: NodeEffect, session: Session, windows: list[FloatArray], count: int
    ) -> NodeEffect:
        """`effect` with the time that it saves, measured interleaved with the float32 model."""
        # Half of what is left is for the gate.
        end = min(self.deadline, time.monotonic() + (self.deadline - time.monotonic()) / (2 * count))
        saved: list[float] = []
        while len(saved) < MOST_ROUNDS and (time.monotonic() < end or len(saved) < LEAST_ROUNDS):
            window = windows[len(saved) % len(windows)][None]
            spent = [0.0, 0.0]
            # The order alternates, so that neither always benefits from the other's caches.
            for i in (0, 1) if len(saved) % 2 else (1, 0):
                start = time.perf_counter()
                (self.before, session)[i].predict(window)
                spent[i] = time.perf_counter() - start
            saved.append(1e3 * (spent[0] - spent[1]))
            if self._is_late():
                break
        if len(saved) < LEAST_ROUNDS:
            return effect
        low, high = bootstrap_interval(saved, lambda draws: np.median(draws, axis=1), resamples=500)
        return replace(effect, saved_ms=float(np.median(saved)), low=low, high=high)

    def _attempt(self, keep: list[str]) -> tuple[Int8Recipe, bytes, Change]:
        recipe, content = self.build(keep)
        self.tried += 1
        change = self.gate.measure(content, before=self.before)
        self.say(f"{len(recipe.float32)} nodes in float32: drop {change.drop}")
        return recipe, content, change

    def _sample(self) -> list[FloatArray]:
        assert self.gate.data is not None
        rows = np.unique(np.linspace(0, len(self.gate.data) - 1, SAMPLE).astype(int))
        return self.before.prepare(self.gate.data.take(rows))

    def _is_late(self) -> bool:
        return time.monotonic() >= self.deadline
