"""`Monitor`: the machines of a stream, each watched by itself, with a state that outlives the process."""

from __future__ import annotations

import json
import time as clock
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgesparse_runtime.arrays import DoubleArray
from edgesparse_runtime.bundle.atomic import replace_text
from edgesparse_runtime.errors import InputError
from edgesparse_runtime.stream.monitor.alarm import Alarm
from edgesparse_runtime.stream.monitor.harm import HarmDetector
from edgesparse_runtime.stream.monitor.rate import DEFAULT, Rate
from edgesparse_runtime.stream.monitor.reference import Reference
from edgesparse_runtime.stream.monitor.watch import Watch

SCHEMA = "edgesparse.monitor-state/1"
# Machines that are watched; windows of further ones are counted.
MOST_MACHINES = 100
# A state of so many machines fits.
_LARGEST_STATE = 16 << 20
# Seconds between two writes of the state, but for alarms, which are written at once.
_SAVE_EVERY = 10.0
# Fewer blocks per false alarm leave no room for evidence.
_LEAST_THRESHOLD = 2.0


class Monitor:
    """Signals of windows in, alarms out.

    Args:
        reference: what a machine in order is like.
        rate: of false alarms, per machine.
        state: file to resume from and to write to; None = nothing is kept.
        error_limit: error of the model that is still in order; None = labels are not used.

    Attributes:
        threshold: evidence of an alarm: blocks per false alarm.
        unwatched: windows of machines beyond the first hundred.

    Raises:
        InputError: the rate does not fit the reference, or the state is damaged.
    """

    def __init__(
        self,
        reference: Reference,
        rate: Rate | None = None,
        *,
        state: Path | None = None,
        error_limit: float | None = None,
    ) -> None:
        self.reference = reference
        self.rate = rate or Rate.parse(DEFAULT)
        block = reference.blocks.windows
        windows = self.rate.in_windows(reference.learned.seconds_per_window)
        self.threshold = windows / block
        if self.threshold < _LEAST_THRESHOLD:
            raise InputError(
                f"`--false-alarms` {self.rate.text} is one per {windows:,.0f} windows; it must be one per at "
                f"least {2 * block:,}, two blocks of this reference."
            )
        self.watches: dict[str, Watch] = {}
        self.unwatched = 0
        self.harm = None if error_limit is None else HarmDetector(error_limit, block)
        self._state = state
        self._saved = clock.monotonic()
        # Harm of an earlier process, where this one has no labels.
        self._other: dict[str, Any] = {}
        if state is not None:
            self._restore(state)

    @property
    def problem(self) -> str:
        """Why no rate of false alarms can be promised; "" where one can."""
        return self.reference.blocks.problem

    @property
    def evidence(self) -> float:
        """The largest evidence of any machine."""
        return max((watch.evidence for watch in self.watches.values()), default=0.0)

    @property
    def alarms(self) -> int:
        """Alarms so far, earlier processes of this state included."""
        return sum(watch.alarms for watch in self.watches.values())

    def add(
        self,
        values_S: Sequence[float] | DoubleArray,
        *,
        machine: str = "",
        context: str = "",
        time: float | None = None,
        faults: Sequence[str] = (),
    ) -> Alarm | None:
        """Take one window's signals, in the order of `reference.signals`; see `Watch.add`."""
        watch = self.watches.get(machine)
        if watch is None:
            if len(self.watches) >= MOST_MACHINES:
                self.unwatched += 1
                return None
            watch = self.watches[machine] = Watch(self.reference, self.threshold, machine)
        alarm = watch.add(values_S, context, time, faults)
        if alarm is not None or clock.monotonic() - self._saved > _SAVE_EVERY:
            self.save()
        return alarm

    def add_error(self, error: float) -> Alarm | None:
        """Take the error of one labeled window, from 0 to 1, whenever its label came."""
        assert self.harm is not None
        if not self.harm.add(error) or self.harm.combined < self.threshold:
            return None
        evidence, labels = self.harm.combined, self.harm.labels
        text = (
            f"error {self.harm.errors / labels:.3g} over {labels:,} labeled windows, "
            f"in order up to {self.harm.limit:.3g}"
        )
        self.harm.restart()
        self.save()
        return Alarm("harm", "", labels, None, evidence, self.threshold, text=text)

    def save(self) -> None:
        """Write the state, whole or not at all.

        Raises:
            OSError: it cannot be written.
        """
        self._saved = clock.monotonic()
        if self._state is None:
            return
        content = {
            "schema": SCHEMA,
            "reference": self.reference.sha256,
            "machines": {name: watch.to_dict() for name, watch in self.watches.items()},
            "harm": self._other if self.harm is None else self.harm.to_dict(),
        }
        replace_text(self._state, json.dumps(content) + "\n")

    def to_dict(self) -> dict[str, Any]:
        """What it has seen, for people and programs."""
        blocks, learned = self.reference.blocks, self.reference.learned
        return {
            "false_alarms": self.rate.text,
            "promised": not self.problem,
            "problem": self.problem,
            "reference": {
                "windows": learned.windows,
                "blocks": blocks.count,
                "block": blocks.windows,
                "source": learned.source,
            },
            "windows": sum(watch.windows for watch in self.watches.values()),
            "faulty": sum(watch.faulty for watch in self.watches.values()),
            "unwatched": self.unwatched,
            "evidence": round(self.evidence, 3),
            "threshold": round(self.threshold, 3),
            "labels": 0 if self.harm is None else self.harm.labels,
            "harm": 0.0 if self.harm is None else round(self.harm.combined, 3),
        }

    def _restore(self, path: Path) -> None:
        """Resume; evidence against another reference is left behind."""
        try:
            content = path.read_bytes() if path.stat().st_size <= _LARGEST_STATE else b""
        except FileNotFoundError:
            return
        try:
            stored = json.loads(content)
            if not isinstance(stored, dict) or stored.get("schema") != SCHEMA:
                raise ValueError(f"its schema is not {SCHEMA}")
            if stored["reference"] != self.reference.sha256:
                return
            for name, state in list(stored["machines"].items())[:MOST_MACHINES]:
                watch = Watch(self.reference, self.threshold, name)
                watch.restore(state)
                self.watches[name] = watch
            self._other = dict(stored["harm"])
            if self.harm is not None and self._other:
                self.harm.restore(self._other)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise InputError(
                f"{path} must be a state of `--monitor`; {error}. Name another file, or remove this one."
            ) from None
