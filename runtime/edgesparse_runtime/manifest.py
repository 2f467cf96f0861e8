"""The manifest of a bundle: what is in it, where it came from, and what was measured."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from edgesparse_runtime.errors import BundleError

SCHEMA_VERSION = 1
FILE_NAME = "manifest.json"
# Names of files in a bundle: plain, so that no name leads out of the folder.
_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_LARGEST_MANIFEST = 16 << 20
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
    "files": dict,
}

Manifest = dict[str, Any]


def read_manifest(folder: Path) -> Manifest:
    """Read and check `folder`/manifest.json; hashes are checked by `check_files`.

    Raises:
        BundleError: missing, not JSON, of an unknown version, or lacking a field.
    """
    path = folder / FILE_NAME
    try:
        if path.stat().st_size > _LARGEST_MANIFEST:
            raise BundleError(f"{path}: a manifest must be at most {_LARGEST_MANIFEST >> 20} MB.")
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BundleError(f"{folder} is not a bundle: it has no {FILE_NAME}.") from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise BundleError(f"{path} must be JSON; {error}. Export the bundle again.") from None
    if not isinstance(manifest, dict):
        raise BundleError(f"{path} must hold one JSON object. Export the bundle again.")
    version = manifest.get("schema_version")
    if not isinstance(version, int) or not 1 <= version <= SCHEMA_VERSION:
        raise BundleError(
            f"{path}: schema version must be 1 to {SCHEMA_VERSION}; got {version!r}. Update edgesparse."
        )
    for key, kind in _REQUIRED.items():
        if not isinstance(manifest.get(key), kind):
            raise BundleError(f"{path}: field `{key}` is missing or of the wrong kind. Export it again.")
    _check_entries(path, manifest)
    return manifest


def check_files(folder: Path, manifest: Manifest) -> None:
    """Compare size and sha256 of every file with the manifest.

    Raises:
        BundleError: a file is missing, was changed, or is a link.
    """
    for name, entry in manifest["files"].items():
        path = folder / name
        if path.is_symlink() or not path.is_file():
            raise BundleError(f"{folder}: {name} is missing. Copy or export the bundle again.")
        if path.stat().st_size != entry["bytes"] or file_hash(path) != entry["sha256"]:
            raise BundleError(f"{folder}: {name} does not match its hash. Copy or export the bundle again.")


def file_entries(folder: Path) -> dict[str, dict[str, object]]:
    """Size and sha256 of every file in `folder` but the manifest."""
    return {
        path.name: {"bytes": path.stat().st_size, "sha256": file_hash(path)}
        for path in sorted(folder.iterdir())
        if path.name != FILE_NAME
    }


def file_hash(path: Path) -> str:
    """sha256 of a file, in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def is_plain_name(name: object) -> bool:
    """True for a name that stays inside its folder."""
    return isinstance(name, str) and _PLAIN_NAME.fullmatch(name) is not None and ".." not in name


def _check_entries(path: Path, manifest: Manifest) -> None:
    for name, entry in manifest["files"].items():
        fits = isinstance(entry, dict) and isinstance(entry.get("bytes"), int)
        if not is_plain_name(name) or not fits or not isinstance(entry.get("sha256"), str):
            raise BundleError(f"{path}: the entry of file {name!r} is not valid. Export the bundle again.")
    models = manifest["models"]
    if not isinstance(models.get("float32"), dict):
        raise BundleError(f"{path}: there is no float32 model. Export the bundle again.")
    for precision, model in models.items():
        if not isinstance(model, dict) or model.get("file") not in manifest["files"]:
            raise BundleError(f"{path}: model {precision!r} names no file of the bundle. Export it again.")
    for channel in manifest["channels"]:
        if not isinstance(channel, dict) or not isinstance(channel.get("name"), str):
            raise BundleError(f"{path}: field `channels` must list names. Export the bundle again.")
