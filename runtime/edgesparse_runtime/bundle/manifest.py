"""The manifest of a bundle: what is in it, where it came from, and what was measured.

Its form is published as JSON Schema, `manifest.schema.json` beside this file and in docs/. A manifest is held
to it whenever a bundle is opened, without a package for schemas: no verb meets a field of another kind.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from edgesparse_runtime.bundle.schema_check import find_mismatch
from edgesparse_runtime.errors import BundleError

SCHEMA_VERSION = 3
FILE_NAME = "manifest.json"
SIGNATURE_NAME = "manifest.sig"
LARGEST_MANIFEST = 16 << 20
# Names of files in a bundle: plain, so that no name leads out of the folder.
_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_HASH = re.compile(r"[0-9a-f]{64}")
_REQUIRED: dict[str, type | tuple[type, ...]] = {
    "schema_version": int,
    "edgesparse": str,
    "created": str,
    "name": str,
    "task": str,
    "channels": list,
    "classes": list,
    "input": dict,
    "models": dict,
    "dense": dict,
    "breakeven": list,
    "files": dict,
}

Manifest = dict[str, Any]


def parse_manifest(content: bytes, path: Path) -> Manifest:
    """Read and check a manifest; one of an older version is brought up to this one.

    Args:
        content: the bytes of manifest.json.
        path: the bundle, for messages.

    Raises:
        BundleError: not JSON, of an unknown version, lacking a field, or with one of the wrong kind.
    """
    where = f"{path}: {FILE_NAME}"
    try:
        loaded = json.loads(content.decode("utf-8"))
    except (UnicodeDecodeError, ValueError, RecursionError) as error:
        raise BundleError(f"{where} must be JSON; {error}. Export the bundle again.") from None
    if not isinstance(loaded, dict):
        raise BundleError(f"{where} must hold one JSON object. Export the bundle again.")
    manifest: Manifest = loaded
    version = manifest.get("schema_version")
    if not isinstance(version, int) or isinstance(version, bool) or not 1 <= version <= SCHEMA_VERSION:
        raise BundleError(
            f"{where}: schema version must be 1 to {SCHEMA_VERSION}; got {version!r}. Update edgesparse."
        )
    for older in range(version, SCHEMA_VERSION):
        manifest = _UPGRADES[older](manifest)
    for key, kind in _REQUIRED.items():
        if not isinstance(manifest.get(key), kind):
            raise BundleError(f"{where}: field `{key}` is missing or of the wrong kind. Export it again.")
    _check_entries(where, manifest)
    schema = _read_schema()
    # Measurements of other machines are looked through one by one, and left out where they do not fit.
    mismatch = find_mismatch(manifest | {"breakeven": []}, schema, schema)
    if mismatch is not None:
        raise BundleError(f"{where}: field {mismatch}. Export the bundle again.")
    return manifest


def manifest_schema() -> dict[str, Any]:
    """The manifest's form as JSON Schema (draft 2020-12)."""
    return copy.deepcopy(_read_schema())


@cache
def _read_schema() -> dict[str, Any]:
    text = resources.files("edgesparse_runtime.bundle").joinpath("manifest.schema.json").read_text("utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema


def is_plain_name(name: object) -> bool:
    """True for a name that stays inside its folder."""
    return isinstance(name, str) and _PLAIN_NAME.fullmatch(name) is not None and ".." not in name


def _check_entries(where: str, manifest: Manifest) -> None:
    for name, entry in manifest["files"].items():
        if not is_plain_name(name) or name in (FILE_NAME, SIGNATURE_NAME) or not _is_entry(entry):
            raise BundleError(f"{where}: the entry of file {name!r} is not valid. Export the bundle again.")
    if not isinstance(manifest["models"].get("float32"), dict):
        raise BundleError(f"{where}: there is no float32 model. Export the bundle again.")
    for field in ("models", "dense"):
        for precision, model in manifest[field].items():
            # A name that is no string must not reach the look-up: it may not be hashable.
            file = model.get("file") if isinstance(model, dict) else None
            if not isinstance(file, str) or file not in manifest["files"]:
                raise BundleError(
                    f"{where}: {field} {precision!r} names no file of the bundle. Export it again."
                )
    for channel in manifest["channels"]:
        if not isinstance(channel, dict) or not isinstance(channel.get("name"), str):
            raise BundleError(f"{where}: field `channels` must list names. Export the bundle again.")
    if not all(isinstance(entry, dict) for entry in manifest["breakeven"]):
        raise BundleError(f"{where}: field `breakeven` must list objects. Export the bundle again.")
    if not all(isinstance(name, str) for name in manifest["classes"]):
        raise BundleError(f"{where}: field `classes` must list names. Export the bundle again.")


def _is_entry(entry: object) -> bool:
    if not isinstance(entry, dict):
        return False
    size, digest = entry.get("bytes"), entry.get("sha256")
    is_size = isinstance(size, int) and not isinstance(size, bool) and size >= 0
    return is_size and isinstance(digest, str) and _HASH.fullmatch(digest) is not None


def _from_1_to_2(manifest: Manifest) -> Manifest:
    """Version 2 knows dense models for lengths where sparse attention does not pay."""
    return {"dense": {}, "break_even": [], **manifest, "schema_version": 2}


# Keys of version 2 and what they are called now, wherever they stand.
_RENAMED = {
    "break_even": "breakeven",
    "least_steps": "min_steps",
    "steps_a_token": "steps_per_token",
    "block_agreement": "selection_overlap",
    "selection_agreement": "selection_overlap",
}


def _from_2_to_3(manifest: Manifest) -> Manifest:
    """Words of version 3; values are untouched."""

    def rename(value: Any) -> Any:
        if isinstance(value, dict):
            return {_RENAMED.get(key, key): rename(item) for key, item in value.items()}
        return [rename(item) for item in value] if isinstance(value, list) else value

    # File names are not words of ours.
    files = manifest.get("files")
    renamed: Manifest = rename({key: value for key, value in manifest.items() if key != "files"})
    return {**renamed, "files": files, "schema_version": 3}


_UPGRADES: dict[int, Callable[[Manifest], Manifest]] = {1: _from_1_to_2, 2: _from_2_to_3}
