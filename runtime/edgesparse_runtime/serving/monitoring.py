"""The monitors of a server: one per model and version, fed with the windows of all its requests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from edgesparse_runtime.errors import EdgeSparseError, InputError
from edgesparse_runtime.serving.log import log
from edgesparse_runtime.serving.protocol.tensors import FloatArray
from edgesparse_runtime.serving.served_model import ServedModel
from edgesparse_runtime.stream.monitor.alarm import Alarm
from edgesparse_runtime.stream.monitor.model import find_reference, signals_for
from edgesparse_runtime.stream.monitor.monitor import Monitor
from edgesparse_runtime.stream.monitor.rate import Rate
from edgesparse_runtime.stream.monitor.signals import Signals

_Key = tuple[str, str]


class _Watched(NamedTuple):
    """What watches a loaded bundle; None = it has no usable reference."""

    bundle_hash: str
    monitor: Monitor | None
    signals: Signals | None


class Monitors:
    """Watches what is served; every method is called from the event loop.

    Args:
        folder: where each model's state is kept.
        rate: of false alarms per model.
        on_alarm: told of each alarm.

    Raises:
        InputError: there is no such folder.
    """

    def __init__(
        self,
        folder: Path,
        rate: Rate,
        on_alarm: Callable[[ServedModel, Alarm], None] = lambda model, alarm: None,
    ) -> None:
        if not folder.is_dir():
            raise InputError(f"`--monitor` {folder}: no such folder. Create it first.")
        self._folder, self._rate, self._on_alarm = folder, rate, on_alarm
        self._watched: dict[_Key, _Watched] = {}

    def open(self, model: ServedModel) -> Monitor:
        """The monitor of a model that has just been loaded; its state is resumed.

        Raises:
            InputError: its bundle has no reference, or the rate or state does not fit.
        """
        address = model.address
        reference = find_reference(model.session, None)
        if reference.context:
            raise InputError(
                f"{address.path}: a server has no {reference.context}s to tell contexts apart. "
                "Learn the reference without --context."
            )
        state = self._folder / f"{address.name}-{address.version}.json"
        monitor = Monitor(reference, self._rate, state=state)
        signals = signals_for(model.session, reference)
        self._watched[address.name, address.version] = _Watched(model.bundle_hash, monitor, signals)
        if monitor.problem:
            log("monitor", model=address.name, version=address.version, message=monitor.problem)
        return monitor

    def find(self, model: ServedModel) -> Monitor | None:
        """The monitor of a model, opened where the bundle is new; None where that has no reference."""
        return self._find(model).monitor

    def add(self, model: ServedModel, windows_NCT: FloatArray, scores_NK: FloatArray, faults: str) -> None:
        """Take the windows of one request.

        Args:
            faults: as `ServedModel.faults`; "0: vibration: flat" is of the first window.
        """
        found = self._find(model)
        if found.monitor is None or found.signals is None:
            return
        values = found.signals.of_windows(windows_NCT, scores_NK)
        broken = {int(one.split(":", 1)[0]): one for one in faults.split("; ") if one}
        for place, row in enumerate(values):
            why = (broken[place].split(": ", 1)[1],) if place in broken else ()
            try:
                alarm = found.monitor.add(row, faults=why)
            except OSError as error:
                # An answer does not wait for a disk with room.
                log("monitor", model=model.address.name, message=f"state not written: {error}")
                continue
            if alarm is not None:
                log("alarm", model=model.address.name, version=model.address.version, **alarm.to_dict())
                self._on_alarm(model, alarm)

    def save(self) -> None:
        """Write every state."""
        for watched in self._watched.values():
            if watched.monitor is not None:
                try:
                    watched.monitor.save()
                except OSError as error:
                    log("monitor", message=f"state not written: {error}")

    def _find(self, model: ServedModel) -> _Watched:
        key = model.address.name, model.address.version
        found = self._watched.get(key)
        if found is None or found.bundle_hash != model.bundle_hash:
            try:
                self.open(model)
            except EdgeSparseError as error:
                log("monitor", model=key[0], version=key[1], message=str(error))
                self._watched[key] = _Watched(model.bundle_hash, None, None)
        return self._watched[key]
