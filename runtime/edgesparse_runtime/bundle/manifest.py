"""The manifest of a bundle: what is in it, where it came from, and what was measured.

Its form is published as JSON Schema, `manifest.schema.json` beside this file and in docs/. A manifest is held
to it whenever a bundle is opened, without a package for schemas: no verb meets a field of another kind. Here
is only what a schema cannot express: that models name files of the bundle, that every string is one line of
text and every number finite, in open objects too.
"""

from __future__ import annotations

import copy
import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from edgesparse_runtime.bundle.names import FILE_NAME, SCHEMA_VERSION
from edgesparse_runtime.bundle.schema_check import find_mismatch, matches
from edgesparse_runtime.errors import BundleError

if TYPE_CHECKING:
    from edgesparse_runtime.bundle.manifest_types import Manifest

# Larger ones are no measurement, and some do not become a float.
_LARGEST_NUMBER = 1e300


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
        manifest = json.loads(content.decode("utf-8"), object_pairs_hook=_unique)
    except (UnicodeDecodeError, ValueError, RecursionError) as error:
        raise BundleError(f"{where} must be JSON; {error}. Export the bundle again.") from None
    if not isinstance(manifest, dict):
        raise BundleError(f"{where} must hold one JSON object. Export the bundle again.")
    version = manifest.get("schema_version")
    if not isinstance(version, int) or isinstance(version, bool) or not 1 <= version <= SCHEMA_VERSION:
        raise BundleError(
            f"{where}: schema version must be 1 to {SCHEMA_VERSION}; got {version!r}. Update edgesparse."
        )
    wrong = _find_wrong_leaf(manifest)
    if wrong is not None:
        raise BundleError(
            f"{where}: every string must be one line of text, and every number finite; got {wrong}. "
            "Export it again."
        )
    if version < SCHEMA_VERSION:
        # Loaded for old bundles only.
        from edgesparse_runtime.bundle.manifest_upgrade import upgrade

        manifest = upgrade(manifest, version)
    schema = _read_schema()
    entries = manifest.get("breakeven")
    if isinstance(entries, list):
        # Measurements of other machines: one that does not fit is not used, and the rest is.
        entry = schema["properties"]["breakeven"]["items"]
        kept = [e for e in entries if not isinstance(e, dict) or find_mismatch(e, entry, schema) is None]
        manifest = {**manifest, "breakeven": kept}
    mismatch = find_mismatch(manifest, schema, schema)
    if mismatch is not None:
        raise BundleError(f"{where}: field {mismatch}. Export the bundle again.")
    checked = cast("Manifest", manifest)
    _check_references(where, checked)
    return checked


def manifest_schema() -> dict[str, Any]:
    """The manifest's form as JSON Schema (draft 2020-12)."""
    return copy.deepcopy(_read_schema())


@cache
def _read_schema() -> dict[str, Any]:
    text = Path(__file__).with_name("manifest.schema.json").read_text(encoding="utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose names come once: other readers of the same bytes might take another one of two."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name comes twice in an object")
    return found


def _find_wrong_leaf(manifest: dict[str, Any]) -> str | None:
    """The first string or key that is not one line of text, or number that is not finite, for a message."""
    pattern: str = _read_schema()["$defs"]["text"]["pattern"]
    left: list[Any] = [manifest]
    while left:
        value = left.pop()
        if isinstance(value, dict):
            left += value.keys()
            left += value.values()
        elif isinstance(value, list):
            left += value
        elif isinstance(value, str) and not matches(pattern, value):
            return ascii(value)[:80]
        elif isinstance(value, (int, float)) and not abs(value) <= _LARGEST_NUMBER:
            return f"{value:.3e}" if isinstance(value, float) else "a number of too many digits"
    return None


def _check_references(where: str, manifest: Manifest) -> None:
    for field, models in (("models", manifest["models"]), ("dense", manifest["dense"])):
        for precision, model in models.items():
            if model["file"] not in manifest["files"]:
                raise BundleError(
                    f"{where}: {field} {precision!r} names no file of the bundle. Export it again."
                )
