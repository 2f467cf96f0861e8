"""Rows that were measured before a run was interrupted, kept beside the bundle until the run is done."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edgesparse_runtime.bundle.atomic import write_durably
from edgesparse_runtime.measure.breakeven import BreakEvenRequest, Cell, Done


class KeptRows:
    """Rows of one request on one machine and model; those of another are not taken up.

    Args:
        bundle: beside which they lie, as NAME.breakeven.json.
        machine: as `describe_machine` has it, with the model's hash.
    """

    def __init__(self, bundle: Path, machine: dict[str, Any], request: BreakEvenRequest) -> None:
        self.path = bundle.with_name(f"{bundle.stem}.breakeven.json")
        settings = {k: v for k, v in asdict(request).items() if k not in ("model", "lengths", "densities")}
        self._key = json.loads(json.dumps({"machine": machine, "settings": settings}))
        self._all = self._read()

    @property
    def done(self) -> Done:
        """Rows by cell."""
        return {_cell(row): row for part in self._all if part["key"] == self._key for row in part["rows"]}

    def add(self, row: dict[str, Any]) -> None:
        """Keep a row; it is on disk when this returns."""
        part = next((p for p in self._all if p["key"] == self._key), None)
        if part is None:
            part = {"key": self._key, "rows": []}
            self._all.append(part)
        part["rows"].append(row)
        self._write()

    def clear(self) -> None:
        """Forget them: the bundle holds them now."""
        self._all = [part for part in self._all if part["key"] != self._key]
        if self._all:
            self._write()
        else:
            self.path.unlink(missing_ok=True)

    def _write(self) -> None:
        staging = self.path.with_name(f".{self.path.name}.new")
        write_durably(staging, (json.dumps(self._all, indent=1) + "\n").encode())
        staging.replace(self.path)

    def _read(self) -> list[dict[str, Any]]:
        try:
            found = json.loads(self.path.read_text("utf-8"))
            is_whole = all(set(p) == {"key", "rows"} and all(map(_cell, p["rows"])) for p in found)
        except (OSError, ValueError, TypeError, KeyError):
            return []
        return list(found) if is_whole else []


def _cell(row: dict[str, Any]) -> Cell:
    return row["length"], row["density"]
