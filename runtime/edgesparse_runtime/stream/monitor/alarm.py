"""`Alarm`: what changed, which signals carry the evidence, and how they were before."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal["change", "harm", "data"]


@dataclass(frozen=True)
class Carrier:
    """A signal that carries evidence.

    Attributes:
        signal: its name.
        share: of the evidence.
        direction: "higher" or "lower" than in the reference.
        before: median of the reference; now: of the latest windows.
        reference: quantiles of the reference; recent: latest values. For a picture.
    """

    signal: str
    share: float
    direction: str
    before: float
    now: float
    reference: tuple[float, ...] = field(default=(), repr=False)
    recent: tuple[float, ...] = field(default=(), repr=False)

    def to_dict(self) -> dict[str, Any]:
        """As JSON shows it: without what is for pictures."""
        return {
            "signal": self.signal,
            "share": round(self.share, 3),
            "direction": self.direction,
            "before": self.before,
            "now": self.now,
        }

    def __str__(self) -> str:
        return f"{self.signal} {self.direction} ({self.before:.4g} -> {self.now:.4g})"


@dataclass(frozen=True)
class Alarm:
    """One alarm.

    Attributes:
        kind: "change" = the windows are not as the reference; "harm" = the model errs more than it should;
            "data" = a sensor is at fault.
        machine: which one; "" = there is one.
        window: number of the window that completed the evidence, from 1.
        time: of that window, in seconds; None = unknown.
        evidence: and the threshold that it reached; 0 for "data", which is a rule.
        carriers: the signals that carry it, strongest first.
        text: what is wrong, for "data" and "harm".
    """

    kind: Kind
    machine: str
    window: int
    time: float | None
    evidence: float
    threshold: float
    carriers: tuple[Carrier, ...] = ()
    text: str = ""

    def __str__(self) -> str:
        place = f"{self.machine}: " if self.machine else ""
        what = self.text or ", ".join(map(str, self.carriers))
        return f"{place}{self.kind} at window {self.window:,}: {what}"

    def to_dict(self) -> dict[str, Any]:
        """As JSON shows it."""
        return {
            "kind": self.kind,
            "machine": self.machine,
            "window": self.window,
            "time": self.time,
            "evidence": round(self.evidence, 3),
            "threshold": round(self.threshold, 3),
            "carriers": [carrier.to_dict() for carrier in self.carriers],
            "text": self.text,
        }
