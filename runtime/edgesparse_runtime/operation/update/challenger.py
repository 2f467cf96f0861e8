"""A challenger with another head: all models of its bundle, golden scores, and where it comes from."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgesparse_runtime.bundle.read import Bundle
from edgesparse_runtime.bundle.write import copy_bundle
from edgesparse_runtime.errors import InputError
from edgesparse_runtime.model_check.metadata import stamp
from edgesparse_runtime.operation.events.rule import FILE as EVENTS
from edgesparse_runtime.operation.update.head import Head, with_head
from edgesparse_runtime.session import Session
from edgesparse_runtime.stream.monitor.reference import FILE as MONITOR

_GOLDEN = "golden.npz"
_CARD = "card.md"
# Of other scores than the challenger's.
STALE = (EVENTS, MONITOR)


def write_challenger(bundle: Bundle, head: Head, path: Path, fields: Mapping[str, Any]) -> Bundle:
    """Write the bundle with another head in each of its models.

    Args:
        fields: of the manifest, that tell where it comes from.

    Raises:
        InputError: a model of the bundle has no head to change, or `path` is taken.
    """
    files: dict[str, bytes] = {}
    renamed: dict[str, str] = {}
    for model in (*bundle.manifest["models"].values(), *bundle.manifest["dense"].values()):
        before = bundle.read(model["file"])
        after = stamp(
            with_head(before, head, f"{bundle.path}: {model['file']}"), {**bundle.manifest, **fields}
        )
        files[model["file"]] = after
        renamed[_sha256(before)] = _sha256(after)
    files[_GOLDEN] = _golden(bundle, files)
    if _CARD in bundle.manifest["files"]:
        files[_CARD] = bundle.read(_CARD) + _note(fields).encode()
    changed = {
        "models": {p: dict(m) for p, m in bundle.manifest["models"].items()},
        "dense": {
            p: {**twin, "of": renamed.get(str(twin.get("of")), str(twin.get("of")))}
            for p, twin in bundle.manifest["dense"].items()
        },
        # The same operations on the same shapes: what was measured of time holds.
        "breakeven": [
            {**entry, "model": renamed.get(str(entry.get("model")), entry.get("model"))}
            for entry in bundle.manifest["breakeven"]
        ],
        **fields,
    }
    return copy_bundle(bundle, path, files, changed, without=STALE)


def release_after(bundle: Bundle, stated: int | None) -> int:
    """The challenger's release number.

    Raises:
        InputError: the stated one does not rise.
    """
    before = bundle.manifest.get("release", 0)
    if stated is None:
        return before + 1
    if stated <= before:
        raise InputError(f"`--release` must be above {before}, that of {bundle.path}; got {stated}.")
    return stated


def data_hash(path: Path) -> str:
    """The sha256 of a data file, or of the names and hashes of a folder's files."""
    if path.is_file():
        return hashlib.sha256(path.read_bytes()).hexdigest()
    digest = hashlib.sha256()
    for file in sorted(file for file in path.rglob("*") if file.is_file()):
        digest.update(str(file.relative_to(path)).encode() + b"\0")
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def _golden(bundle: Bundle, files: Mapping[str, bytes]) -> bytes:
    """The golden windows with the scores of the changed models."""
    golden = dict(bundle.golden())
    inputs = golden["windows"]
    for precision, model in bundle.manifest["models"].items():
        if f"scores_{precision}" in golden:
            session = Session(model["file"], content=files[model["file"]])
            golden[f"scores_{precision}"] = session.predict(inputs)
    stream = io.BytesIO()
    np.savez_compressed(stream, **golden)  # type: ignore[arg-type]
    return stream.getvalue()


def _note(fields: Mapping[str, Any]) -> str:
    return (
        f"\n## Update\n\nRelease {fields['release']}, made from {fields['parent']} by `edgesparse update "
        f"--mode {fields['update']['mode']}`. The figures above are those of the model before; the manifest "
        "holds the new ones in `update`.\n"
    )


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
