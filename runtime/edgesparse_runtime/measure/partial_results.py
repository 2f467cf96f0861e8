"""Rows measured before a run was interrupted, kept next to the bundle until the run is complete."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edgesparse_runtime.bundle.atomic import replace_text
from edgesparse_runtime.bundle.manifest_types import BreakevenRow
from edgesparse_runtime.measure.breakeven import BreakevenJob, Cell, Done


class PartialResults:
    """Rows of one request on one machine and model; rows of another are ignored.

    Args:
        bundle: the file NAME.breakeven.json lies next to it.
        machine: as `describe_machine` has it, with the model's hash.
    """

    def __init__(self, bundle: Path, machine: dict[str, Any], request: BreakevenJob) -> None:
        self.path = bundle.with_name(f"{bundle.stem}.breakeven.json")
        settings = {k: v for k, v in asdict(request).items() if k not in ("model", "lengths", "densities")}
        self._key = json.loads(json.dumps({"machine": machine, "settings": settings}))
        self._all = self._read()

    @property
    def done(self) -> Done:
        """Rows by cell."""
        return {_cell(row): row for part in self._all if part["key"] == self._key for row in part["rows"]}

    def add(self, row: BreakevenRow) -> None:
        """Keep a row; it is on disk when this returns."""
        part = next((p for p in self._all if p["key"] == self._key), None)
        if part is None:
            part = {"key": self._key, "rows": []}
            self._all.append(part)
        part["rows"].append(row)
        self._write()

    def clear(self) -> None:
        """Delete them: the bundle holds them now."""
        self._all = [part for part in self._all if part["key"] != self._key]
        if self._all:
            self._write()
        else:
            self.path.unlink(missing_ok=True)

    def _write(self) -> None:
        replace_text(self.path, json.dumps(self._all, indent=1) + "\n")

    def _read(self) -> list[dict[str, Any]]:
        try:
            found = json.loads(self.path.read_text("utf-8"))
            is_whole = all(set(p) == {"key", "rows"} and all(map(_cell, p["rows"])) for p in found)
        except (OSError, ValueError, TypeError, KeyError):
            return []
        return list(found) if is_whole else []


def _cell(row: BreakevenRow) -> Cell:
    return row["length"], row["density"]
