"""`Watch`: the monitor of one machine: faults first, then ranks, blocks and evidence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgesparse_runtime.arrays import DoubleArray
from edgesparse_runtime.stream.monitor.alarm import Alarm, Carrier
from edgesparse_runtime.stream.monitor.detector import Detector
from edgesparse_runtime.stream.monitor.reference import Reference

# Latest windows that a picture shows.
RECENT = 64
# Windows that are ranked together: ranking each by itself would cost more than it has to.
_BATCH = 128
_MOST_CARRIERS = 5
# Share of the evidence below which a signal does not carry it.
_LEAST_SHARE = 0.05
# Faulty windows in a row from which on a sensor is at fault and not a single window.
_FAULTY_IN_ROW = 3


class Watch:
    """Windows of one machine in, alarms out, in constant memory.

    Args:
        reference: what the machine is like when in order.
        threshold: evidence of an alarm: blocks per false alarm.
        machine: its name, for alarms.

    Attributes:
        windows: so far, faulty ones included; faulty: of these; alarms: given.
    """

    def __init__(self, reference: Reference, threshold: float, machine: str = "") -> None:
        self.reference, self.threshold, self.machine = reference, threshold, machine
        self.detector = Detector(reference.blocks.tolerance)
        self.windows = self.faulty = self.alarms = 0
        signals = len(reference.signals)
        self.recent = np.full((RECENT, signals), np.nan)
        self._sum, self._known = np.zeros(signals), np.zeros(signals)
        self._in_block = 0
        self._waiting = np.empty((_BATCH, signals))
        self._contexts: list[str] = [""] * _BATCH
        self._waits = 0
        self._faulty_in_row = 0

    @property
    def evidence(self) -> float:
        """The combined evidence of all complete blocks; an alarm at `threshold`."""
        return float(self.detector.combined)

    def add(
        self,
        values_S: Sequence[float] | DoubleArray,
        context: str = "",
        time: float | None = None,
        faults: Sequence[str] = (),
    ) -> Alarm | None:
        """Take one window's signals.

        Args:
            context: of the window, where the reference has contexts.
            time: of the window, for the alarm.
            faults: what is wrong with its sensors; such a window is not compared with the reference.
        """
        self.windows += 1
        if faults:
            return self._add_faulty(time, faults)
        self._faulty_in_row = 0
        self._waiting[self._waits] = values_S
        self._contexts[self._waits] = context
        self._waits += 1
        if self._waits < _BATCH and self._in_block + self._waits < self.reference.blocks.windows:
            return None
        self._rank()
        return self._close_block(time) if self._in_block >= self.reference.blocks.windows else None

    def to_dict(self) -> dict[str, Any]:
        """Its state: a few kB."""
        self._rank()
        return {
            "windows": self.windows,
            "faulty": self.faulty,
            "alarms": self.alarms,
            "evidence": self.detector.evidence.tolist(),
            "in_block": self._in_block,
            "sum": self._sum.tolist(),
            "known": self._known.tolist(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Resume from `to_dict`.

        Raises:
            ValueError: not a state for this reference.
        """
        evidence = np.array(state["evidence"], dtype=np.float64)
        total, known = (np.array(state[key], dtype=np.float64) for key in ("sum", "known"))
        if evidence.shape != self.detector.evidence.shape or total.shape != known.shape != self._sum.shape:
            raise ValueError("it has other signals")
        if not (np.isfinite(evidence).all() and (evidence >= 0).all()):
            raise ValueError("its evidence is no evidence")
        self.detector.evidence, self._sum, self._known = evidence, total, known
        self._in_block = int(state["in_block"])
        self.windows, self.faulty, self.alarms = (int(state[k]) for k in ("windows", "faulty", "alarms"))

    def _add_faulty(self, time: float | None, faults: Sequence[str]) -> Alarm | None:
        self.faulty += 1
        self._faulty_in_row += 1
        if self._faulty_in_row != max(_FAULTY_IN_ROW, self.reference.learned.overlap):
            return None
        self.alarms += 1
        text = ", ".join(faults)
        return Alarm("data", self.machine, self.windows, time, 0.0, 0.0, text=text)

    def _rank(self) -> None:
        """Add the waiting windows to the block."""
        if not self._waits:
            return
        values = self._waiting[: self._waits]
        contexts = self._contexts[: self._waits] if self.reference.context else None
        found = self.reference.ranks(values, contexts)
        is_known = ~np.isnan(found)
        self._sum += np.where(is_known, found, 0).sum(axis=0)
        self._known += is_known.sum(axis=0)
        self._in_block += self._waits
        latest = values[-RECENT:]
        self.recent = np.concatenate([self.recent, latest])[-RECENT:]
        self._waits = 0

    def _close_block(self, time: float | None) -> Alarm | None:
        # Where less than half of a block is known, its mean may be of any part of it.
        is_known = self._known >= 0.5 * self._in_block
        means = np.where(is_known, self._sum / np.maximum(self._known, 1), np.nan)
        self._sum, self._known, self._in_block = np.zeros_like(means), np.zeros_like(means), 0
        evidence = float(self.detector.update(means))
        if evidence < self.threshold:
            return None
        carriers = self._carriers()
        self.alarms += 1
        self.detector.restart()
        return Alarm("change", self.machine, self.windows, time, evidence, self.threshold, carriers)

    def _carriers(self) -> tuple[Carrier, ...]:
        by_signal = self.detector.by_signal()
        total = by_signal.sum()
        order = np.argsort(-by_signal.max(axis=0))[:_MOST_CARRIERS]
        found: list[Carrier] = []
        for i in order.tolist():
            side = int(by_signal[:, i].argmax())
            share = float(by_signal[side, i] / total)
            if share < _LEAST_SHARE and found:
                break
            # A signal without a value in the latest windows has no evidence of its own.
            recent = self.recent[:, i][~np.isnan(self.recent[:, i])]
            before = self.reference.sketches[""][i]
            found.append(
                Carrier(
                    self.reference.signals[i],
                    share,
                    ("higher", "lower")[side],
                    float(np.median(before)),
                    float(np.median(recent)) if len(recent) else 0.0,
                    tuple(before.tolist()),
                    tuple(recent.tolist()),
                )
            )
        return tuple(found)
