"""Brings a manifest of an older schema version up to the newest.

| from | to | what changed |
|---|---|---|
| 1 | 2 | dense twins, and where they pay |
| 2 | 3 | names of fields; values are untouched |
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from edgesparse_runtime.bundle.names import SCHEMA_VERSION

# Keys of version 2 and their names now, wherever they stand.
_RENAMED = {
    "break_even": "breakeven",
    "least_steps": "min_steps",
    "steps_a_token": "steps_per_token",
    "value_kernel": "value_filter",
    "block_agreement": "selection_overlap",
    "selection_agreement": "selection_overlap",
}


def upgrade(manifest: dict[str, Any], version: int) -> dict[str, Any]:
    """The manifest in the newest version; `version` is its own, from 1 to the newest."""
    for older in range(version, SCHEMA_VERSION):
        manifest = _UPGRADES[older](manifest)
    return manifest


def _from_1_to_2(manifest: dict[str, Any]) -> dict[str, Any]:
    return {"dense": {}, "break_even": [], **manifest, "schema_version": 2}


def _from_2_to_3(manifest: dict[str, Any]) -> dict[str, Any]:
    # Names of files and of models are the bundle's own, whatever they are.
    own = {key: manifest[key] for key in ("files", "classes", "channels") if key in manifest}
    renamed = _rename({key: value for key, value in manifest.items() if key not in own})
    renamed["models"] = {
        name: _with_new_report(model) for name, model in _entries(renamed.get("models"))
    } or renamed.get("models")
    if "calibration" in renamed:
        found = dict(_entries(renamed.pop("calibration")))
        renamed["temperature"] = {_NEW_TEMPERATURE.get(k, k): v for k, v in found.items()} or None
    return {**renamed, **own, "schema_version": 3}


_NEW_TEMPERATURE = {"temperature": "value"}


def _with_new_report(model: Any) -> Any:
    """A model's entry; the word `agreement` was renamed in the report of int8 only."""
    if not isinstance(model, dict) or not isinstance(model.get("report"), dict):
        return model
    report = {"selection_overlap" if k == "agreement" else k: v for k, v in model["report"].items()}
    return {**model, "report": report}


def _entries(value: Any) -> list[tuple[Any, Any]]:
    """Items of what should be an object; the manifest is not checked yet."""
    return list(value.items()) if isinstance(value, dict) else []


def _rename(value: Any) -> Any:
    """The value with every renamed key; its depth is bounded by that of the JSON that was read."""
    if isinstance(value, dict):
        return {_RENAMED.get(key, key): _rename(item) for key, item in value.items()}
    return [_rename(item) for item in value] if isinstance(value, list) else value


_UPGRADES: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {1: _from_1_to_2, 2: _from_2_to_3}
