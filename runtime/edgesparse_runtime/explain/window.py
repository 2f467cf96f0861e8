"""`explain_window`: one window's routing, influence and trust."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgesparse_runtime.arrays import FloatArray
from edgesparse_runtime.data.model_inputs import WindowData
from edgesparse_runtime.errors import InputError
from edgesparse_runtime.explain.influence import Decision, Influence, Scale, measure_influence, ranked
from edgesparse_runtime.explain.nearest import Nearest, find_nearest
from edgesparse_runtime.explain.prototypes import Prototypes, read_prototypes
from edgesparse_runtime.explain.routing import DENSE_TWIN, NO_ATTENTION, Recorder, Routing, has_routing
from edgesparse_runtime.explain.trust import Trust, judge_map, rank_correlation
from edgesparse_runtime.session import Session

# Blocks from which on a rank correlation says something.
_FEWEST_BLOCKS = 6


@dataclass(frozen=True)
class Agreement:
    """Whether the model attended to what moved its scores.

    Attributes:
        correlation: of ranks over blocks; NaN where either is the same everywhere.
        blocks: how many.
        trust: of the order in which blocks were attended to, tested as influence is; not of influence.
    """

    correlation: float
    blocks: int
    trust: Trust

    def to_dict(self) -> dict[str, Any]:
        correlation = None if math.isnan(self.correlation) else round(self.correlation, 5)
        return {"correlation": correlation, "blocks": self.blocks, "routing": self.trust.to_dict()}


@dataclass(frozen=True)
class Explanation:
    """What is known of one decision.

    Attributes:
        window: as it was explained, without padding at its end.
        channels: their names.
        classes: names of the scores; empty for a regression.
        decision: the predicted class against all others.
        rival: the predicted class against one other; None for a regression, or of a single class.
        influence: what moved the scores.
        routing: what was attended to; None where nothing could be recorded.
        routing_note: why there is none.
        trust: of the order of segments.
        agreement: of routing and influence; None without routing.
        nearest: the nearest typical training window of the rival.
        facts: index, name and label of the window.
    """

    window: FloatArray
    channels: tuple[str, ...]
    classes: tuple[str, ...]
    decision: Decision
    rival: Decision | None
    influence: Influence
    routing: Routing | None
    routing_note: str
    trust: Trust
    agreement: Agreement | None
    nearest: Nearest | None
    facts: dict[str, Any]

    @property
    def target(self) -> str:
        """Name of the predicted class; "" for a regression."""
        return "" if self.decision.target is None else self.classes[self.decision.target]

    @property
    def against(self) -> str:
        """Name of the class that it is compared with; "" where there is none."""
        return "" if self.rival is None or self.rival.against is None else self.classes[self.rival.against]

    @property
    def holds(self) -> bool:
        """The map of influence may be relied on."""
        return self.trust.holds

    def to_dict(self) -> dict[str, Any]:
        """Every figure; what the page and the text show is read from here."""
        scores = [round(float(x), 6) for x in self.influence.scores]
        names = self.classes or tuple(f"output {i}" for i in range(len(scores)))
        return {
            **self.facts,
            "steps": int(self.window.shape[1]),
            "channels": list(self.channels),
            "scores": dict(zip(names, scores, strict=True)),
            "predicted": self.target or None,
            "against": self.against or None,
            "unit": "log-odds" if self.classes else "output",
            "evidence": _round(self.decision.evidence(self.influence.scores[None])[0]),
            "signal": self._signal(),
            "influence": self._influence(),
            "routing": None if self.routing is None else self.routing.to_dict(),
            "routing_note": self.routing_note or None,
            "trust": self.trust.to_dict(),
            "agreement": None if self.agreement is None else self.agreement.to_dict(),
            "nearest": None if self.nearest is None else self.nearest.to_dict(self.classes),
            "reliable": self.holds,
        }

    def _signal(self) -> list[dict[str, Any]]:
        """What each channel is like in this window."""
        rows = []
        for name, row in zip(self.channels, self.window, strict=True):
            seen = row[~np.isnan(row)]
            ends = [round(float(x), 6) for x in (seen.min(), seen.max())] if len(seen) else [None, None]
            rows.append({"name": name, "low": ends[0], "high": ends[1], "missing": len(row) - len(seen)})
        return rows

    def _influence(self) -> dict[str, Any]:
        found = self.influence
        rival = np.full(len(found.fine.starts), np.nan)
        of_channels = np.full(len(self.channels), np.nan)
        if self.rival is not None:
            rival, of_channels = found.segments(self.rival), found.of_channels(self.rival)
        both = found.segments(self.decision)
        segments = self._segments(found.fine)
        for row, a, b in zip(segments, both, rival, strict=True):
            row |= {"influence": _round(a), "influence_against": None if math.isnan(b) else _round(b)}
        channels = []
        changes = found.of_channels(self.decision)
        for i, change in enumerate(changes):
            assert found.channels is not None
            channels.append(
                {
                    "name": self.channels[i],
                    "influence": _round(change),
                    "influence_against": None if math.isnan(of_channels[i]) else _round(of_channels[i]),
                    "score_without": self._score(found.channels[i]),
                }
            )
        return {
            "predictions": found.predictions,
            "segments": segments,
            "order": [int(i) for i in ranked(both)],
            "coarse": self._segments(found.coarse),
            "channels": channels,
        }

    def _segments(self, scale: Scale) -> list[dict[str, Any]]:
        changes = scale.changes(self.decision, self.influence.scores)
        rows = []
        for i, (start, end) in enumerate(zip(scale.starts, scale.ends, strict=True)):
            row = {"start": int(start), "end": int(end), "change": _round(changes[i])}
            row["score_without"] = self._score(scale.without[i])
            if scale.alone is not None:
                row["score_alone"] = self._score(scale.alone[i])
            rows.append(row)
        return rows

    def _score(self, scores_K: FloatArray) -> float:
        target = self.decision.target
        return round(float(scores_K.mean() if target is None else scores_K[target]), 6)


class Explainer:
    """Explains windows of one session.

    Args:
        against: a class to compare the predicted one with; None = the next likely one.

    Raises:
        InputError: a model of named tensors, or no such class.
    """

    def __init__(self, session: Session, *, against: str | None = None) -> None:
        check_explainable(session)
        self.session = session
        self._against: int | None = None
        if against is not None:
            if against not in session.classes:
                known = ", ".join(session.classes) or "no classes"
                raise InputError(f"`--against` must be a class of the model; got {against}. It has {known}.")
            self._against = session.classes.index(against)
        self.recorder = Recorder(session) if has_routing(session) else None
        self.prototypes: Prototypes | None = None
        if session.bundle is not None and session.classes:
            self.prototypes = read_prototypes(session.bundle)

    def explain(self, window_CT: FloatArray, facts: dict[str, Any] | None = None) -> Explanation:
        """Explain one window, as `Session.prepare` returns it."""
        session = self.session
        influence = measure_influence(session, window_CT)
        decision, rival = self.decide(influence.scores)
        order = np.argsort(-influence.segments(decision), kind="stable")
        routing, note = self.route(window_CT)
        nearest = None
        if self.prototypes is not None and rival is not None:
            nearest = find_nearest(session, self.prototypes, window_CT, influence.fine, order, rival)
        return Explanation(
            window_CT,
            session.channels or tuple(f"channel {i}" for i in range(len(window_CT))),
            session.classes,
            decision,
            rival,
            influence,
            routing,
            note,
            judge_map(session, window_CT, influence.per_step(decision)),
            None if routing is None else self.agree(window_CT, influence, decision, routing),
            nearest,
            {} if facts is None else facts,
        )

    def explain_one(self, data: WindowData) -> Explanation:
        """Explain data that hold one window.

        Raises:
            InputError: they hold none, or more.
        """
        windows = self.session.prepare(data)
        if len(windows) != 1:
            raise InputError(f"`explain` must be given one window; got {len(windows)}.")
        return self.explain(windows[0])

    def route(self, window_CT: FloatArray) -> tuple[Routing | None, str]:
        """The routing record, or why there is none."""
        if self.recorder is None:
            return None, NO_ATTENTION
        if self.session.takes_dense(window_CT.shape[1]):
            return None, DENSE_TWIN
        return self.recorder.run(window_CT), ""

    def decide(self, scores_K: FloatArray) -> tuple[Decision, Decision | None]:
        """The predicted class against all others, and against the one asked for or the next likely one."""
        if not self.session.classes:
            return Decision(None), None
        order = np.argsort(-scores_K, kind="stable")
        target = int(order[0])
        against = self._against if self._against not in (None, target) else None
        if against is None and len(order) > 1:
            against = int(order[1])
        return Decision(target), None if against is None else Decision(target, against)

    def agree(
        self, window_CT: FloatArray, influence: Influence, decision: Decision, routing: Routing
    ) -> Agreement:
        """Routing beside influence, block by block, and routing's own order against random ones."""
        steps = np.abs(influence.per_step(decision))
        starts = np.array(routing.starts)
        moved = np.add.reduceat(steps, starts) / np.subtract(routing.ends, starts)
        blocks = len(starts)
        correlation = rank_correlation(routing.attended, moved) if blocks >= _FEWEST_BLOCKS else math.nan
        return Agreement(correlation, blocks, judge_map(self.session, window_CT, routing.per_step()))


def check_explainable(session: Session) -> None:
    """Refuse a model that takes no windows.

    Raises:
        InputError: it takes named tensors.
    """
    if session.takes_tensors:
        raise InputError(
            f"`edgesparse explain` needs a model of windows; {session.path.name} takes named tensors."
        )


def _round(value: Any) -> float:
    return round(float(value), 5)
