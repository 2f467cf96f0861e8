"""Writes a bundle whole or not at all: staged beside its place, opened there, exchanged in one step."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from edgesparse_runtime.bundle.archive import is_archive, pack_files
from edgesparse_runtime.bundle.atomic import only_writer, put_in_place, staging_folder, write_durably
from edgesparse_runtime.bundle.names import FILE_NAME, SCHEMA_VERSION, SUFFIX, is_plain_name
from edgesparse_runtime.bundle.read import Bundle, open_bundle
from edgesparse_runtime.bundle.source import find_source
from edgesparse_runtime.bundle.version import tool_version
from edgesparse_runtime.errors import InputError

# Fields that are about the files and not about the model.
_OUTSIDE = ("schema_version", "edgesparse", "created", "files")


def write_bundle(
    path: str | Path, files: Mapping[str, bytes], fields: Mapping[str, Any], *, archive: bool | None = None
) -> Bundle:
    """Write a bundle, whole or not at all; an existing bundle at `path` is replaced.

    Args:
        files: content by plain file name, `model.onnx` among them.
        fields: the manifest's fields but those about files, versions and time.
        archive: as one file; None = as what is there, else a folder.

    Raises:
        InputError: `path` exists and is not a bundle, or is one of the other form.
    """
    return store_files(path, _with_manifest(files, fields), archive=archive)


def rewrite_bundle(
    bundle: Bundle, files: Mapping[str, bytes], fields: Mapping[str, Any], *, without: Collection[str] = ()
) -> Bundle:
    """Write the bundle anew with some files added or replaced and some manifest fields changed.

    A signature is dropped: what it signed is no more.

    Args:
        without: names of files to leave out.

    Raises:
        BundleError: another writer has replaced the bundle since it was opened.
    """
    written = _changed(bundle, files, fields, without)
    return store_files(bundle.path, written, archive=bundle.is_archive, replacing=bundle)


def copy_bundle(
    bundle: Bundle,
    path: str | Path,
    files: Mapping[str, bytes],
    fields: Mapping[str, Any],
    *,
    without: Collection[str] = (),
) -> Bundle:
    """Write another bundle with changes, as `rewrite_bundle` does in place.

    Raises:
        InputError: as `write_bundle`.
    """
    archive = None if Path(path).exists() else bundle.is_archive
    return store_files(path, _changed(bundle, files, fields, without), archive=archive)


def store_files(
    path: str | Path,
    files: Mapping[str, bytes],
    *,
    archive: bool | None = None,
    replacing: Bundle | None = None,
) -> Bundle:
    """Write a bundle's files, manifest included, whole or not at all, and open the result.

    Args:
        replacing: the opened bundle that these files were made from; what another writer has put in its place
            since is not overwritten.

    Raises:
        InputError: as `write_bundle`.
        BundleError: the files are no bundle; what was at `path` stays.
    """
    target = Path(path)
    check_target(target, archive=archive)
    if archive is None:
        archive = target.is_file()
    for name in files:
        if not is_plain_name(name):
            raise InputError(f"A file name in a bundle must be plain; got {name!r}.")
    with staging_folder(target) as staging:
        new = staging / target.name
        if archive:
            write_durably(new, pack_files(files))
        else:
            new.mkdir(mode=0o755)
            for name, content in files.items():
                write_durably(new / name, content)
        written = open_bundle(new)
        with only_writer(target):
            if replacing is not None:
                replacing.check_unchanged()
            put_in_place(new, target)
    # What was checked before it took its place; the path may lead to another writer's bundle by now.
    return replace(written, path=target, source=find_source(target))


def check_target(target: Path, *, archive: bool | None = None) -> None:
    """Refuse a place where a bundle would overwrite something else.

    Raises:
        InputError: the name does not end in .edgesparse, something that is no bundle is there, or a bundle
            of the other form is.
    """
    if target.suffix != SUFFIX:
        raise InputError(
            f"A bundle's name must end in {SUFFIX}; got {target.name}. Use {target.name}{SUFFIX}."
        )
    if not target.exists():
        return
    if not ((target / FILE_NAME).is_file() or is_archive(target)):
        raise InputError(f"{target} exists and is not a bundle. Choose another name.")
    if archive is not None and archive != target.is_file():
        form = "an archive" if target.is_file() else "a folder"
        raise InputError(f"{target} exists as {form}. Choose another name, or remove it first.")


def _changed(
    bundle: Bundle, files: Mapping[str, bytes], fields: Mapping[str, Any], without: Collection[str]
) -> dict[str, bytes]:
    """All files of a bundle after some changes, manifest included."""
    names = [name for name in bundle.manifest["files"] if name not in files and name not in without]
    kept = {name: bundle.read(name) for name in names}
    before = {key: value for key, value in bundle.manifest.items() if key not in _OUTSIDE}
    return _with_manifest({**kept, **files}, {**before, **fields})


def _with_manifest(files: Mapping[str, bytes], fields: Mapping[str, Any]) -> dict[str, bytes]:
    """The files with the manifest that describes them."""
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in sorted(files.items())}
    manifest = {
        "schema_version": SCHEMA_VERSION,
        "edgesparse": tool_version(),
        "created": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "dense": {},
        "breakeven": [],
        **fields,
        "files": {name: {"bytes": len(files[name]), "sha256": digest} for name, digest in hashes.items()},
    }
    text = json.dumps(manifest, indent=2, allow_nan=False) + "\n"
    return {**files, FILE_NAME: text.encode()}
