"""Finished cells: one JSON file each, written whole or not at all."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgesparse_export.poc.cell import remove_bundles
from edgesparse_export.poc.plan import Cell
from edgesparse_runtime.bundle.atomic import replace_text
from edgesparse_runtime.errors import InputError

CELLS, LATENCY, RESULT = "cells", "latency", "poc.json"


class CellStore:
    """The cells of a poc's folder.

    Args:
        key: what every cell depends on: data, settings, version.

    Raises:
        InputError: the folder holds something else, or cells of another key.
    """

    def __init__(self, out: Path, key: Mapping[str, Any], *, overwrite: bool = False) -> None:
        self.out, self._key = out, json.loads(json.dumps(key))
        _check_folder(out)
        if overwrite:
            shutil.rmtree(out / CELLS, ignore_errors=True)
            remove_bundles(out)
            (out / RESULT).unlink(missing_ok=True)
        (out / CELLS).mkdir(parents=True, exist_ok=True)
        self._found = {path.stem: self._read(path) for path in sorted((out / CELLS).glob("*.json"))}

    def get(self, cell: Cell) -> dict[str, Any] | None:
        """What was measured of a cell; None = not yet, or its bundle is gone."""
        found = self._found.get(cell.name)
        if found is not None and found.get("bundle") and not (self.out / found["bundle"]).exists():
            return None
        return found

    def put(self, cell: Cell, result: Mapping[str, Any]) -> None:
        """Keep a cell; it is on disk when this returns."""
        self._put(cell.name, result)

    def latency(self, of: Mapping[str, Any]) -> dict[str, Any] | None:
        """The latencies measured of these models with these settings; None = not yet."""
        found = self._found.get(LATENCY)
        return None if found is None or found["of"] != json.loads(json.dumps(of)) else found

    def put_latency(self, of: Mapping[str, Any], result: Mapping[str, Any]) -> None:
        self._put(LATENCY, {**result, "of": of})

    def _put(self, name: str, result: Mapping[str, Any]) -> None:
        text = json.dumps({"key": self._key, "result": result}, indent=1)
        replace_text(self.out / CELLS / f"{name}.json", text + "\n")
        self._found[name] = json.loads(text)["result"]

    def _read(self, path: Path) -> dict[str, Any]:
        try:
            record = json.loads(path.read_text("utf-8"))
            key, result = record["key"], dict(record["result"])
        except (ValueError, KeyError, TypeError, OSError):
            raise InputError(f"{path} is damaged. Delete it; the cell is then measured again.") from None
        if key != self._key:
            changed = ", ".join(name for name in self._key if key.get(name) != self._key[name])
            raise InputError(
                f"{self.out} was started with other {changed}. Use the same, add --overwrite, or choose "
                "another folder."
            )
        return result


def _check_folder(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file; `--out` must be a folder.")
    if out.is_dir() and any(out.iterdir()) and not (out / CELLS).is_dir():
        raise InputError(f"{out} holds other files. Choose another folder.")
