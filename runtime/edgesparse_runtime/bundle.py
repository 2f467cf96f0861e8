"""A bundle: a folder NAME.edgesparse/ that holds a model, its manifest and golden vectors.

Written atomically, opened only when whole: every file has its size and sha256 in the manifest.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgesparse_runtime.errors import BundleError, InputError
from edgesparse_runtime.manifest import (
    FILE_NAME,
    SCHEMA_VERSION,
    Manifest,
    check_files,
    file_entries,
    is_plain_name,
    read_manifest,
)

SUFFIX = ".edgesparse"


@dataclass(frozen=True)
class Bundle:
    """An opened bundle.

    Attributes:
        path: its folder.
        manifest: what the manifest says (docs/bundle.md).
    """

    path: Path
    manifest: Manifest

    @property
    def name(self) -> str:
        return str(self.manifest["name"])

    @property
    def task(self) -> str:
        return str(self.manifest["task"])

    @property
    def channels(self) -> tuple[str, ...]:
        return tuple(channel["name"] for channel in self.manifest["channels"])

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(self.manifest["classes"])

    @property
    def precisions(self) -> tuple[str, ...]:
        return tuple(self.manifest["models"])

    def model_path(self, precision: str) -> Path:
        """The ONNX file of a precision.

        Raises:
            InputError: the bundle has no such model.
        """
        models = self.manifest["models"]
        if precision not in models:
            have = " and ".join(models)
            raise InputError(
                f"`precision` must be one that {self.path.name} holds ({have}); got {precision}. "
                "`edgesparse quantize` adds int8."
            )
        return self.path / str(models[precision]["file"])

    def golden(self) -> dict[str, npt.NDArray[np.float32]]:
        """Golden vectors: `windows` [n, channels, time] and `scores_<precision>` [n, k]."""
        with np.load(self.path / "golden.npz", allow_pickle=False) as archive:
            return {name: np.asarray(archive[name], dtype=np.float32) for name in archive.files}


def open_bundle(path: str | Path) -> Bundle:
    """Open a bundle folder, checking its manifest and every hash.

    Raises:
        InputError: there is nothing at `path`.
        BundleError: it is not a bundle, is damaged, or is of an unknown version.
    """
    folder = Path(path)
    if not folder.exists():
        raise InputError(f"{folder} must be a bundle; there is nothing of that name.")
    if not folder.is_dir():
        raise BundleError(f"{folder} must be a bundle folder; it is a file.")
    manifest = read_manifest(folder)
    check_files(folder, manifest)
    return Bundle(folder, manifest)


def write_bundle(path: str | Path, files: Mapping[str, bytes], fields: Manifest) -> Bundle:
    """Write a bundle, whole or not at all; an existing bundle at `path` is replaced.

    Args:
        files: content by plain file name, `model.onnx` among them.
        fields: the manifest's fields but those about files, versions and time.

    Raises:
        InputError: `path` exists and is not a bundle.
    """
    target = Path(path)
    check_target(target)
    for name in files:
        if not is_plain_name(name):
            raise InputError(f"A file name in a bundle must be plain; got {name!r}.")
    target.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        for name, content in files.items():
            _write_durably(staging / name, content)
        manifest = {
            "schema_version": SCHEMA_VERSION,
            "edgesparse": tool_version(),
            "created": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            **fields,
            "files": file_entries(staging),
        }
        text = json.dumps(manifest, indent=2, allow_nan=False) + "\n"
        _write_durably(staging / FILE_NAME, text.encode())
        staging.chmod(0o755)
        check_files(staging, read_manifest(staging))
        _swap_in(staging, target)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    return open_bundle(target)


def rewrite_bundle(bundle: Bundle, files: Mapping[str, bytes], fields: Manifest) -> Bundle:
    """Write the bundle anew with some files added or replaced and some manifest fields changed."""
    kept = {name: (bundle.path / name).read_bytes() for name in bundle.manifest["files"]}
    outside = ("schema_version", "edgesparse", "created", "files")
    before = {key: value for key, value in bundle.manifest.items() if key not in outside}
    return write_bundle(bundle.path, {**kept, **files}, {**before, **fields})


def check_target(target: Path) -> None:
    """Refuse a place where a bundle would overwrite something else.

    Raises:
        InputError: the name does not end in .edgesparse, or something that is no bundle is there.
    """
    if target.suffix != SUFFIX:
        raise InputError(
            f"A bundle's name must end in {SUFFIX}; got {target.name}. Use {target.name}{SUFFIX}."
        )
    if target.exists() and not (target / FILE_NAME).is_file():
        raise InputError(f"{target} exists and is not a bundle. Choose another name.")


def tool_version() -> str:
    """This distribution's version."""
    try:
        return version("edgesparse")
    except PackageNotFoundError:
        return "0+source"


def _write_durably(path: Path, content: bytes) -> None:
    with path.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


def _swap_in(staging: Path, target: Path) -> None:
    """Put the new folder in place; the old one is set aside first and removed last."""
    aside = staging.with_name(staging.name + ".old")
    if target.exists():
        target.rename(aside)
    try:
        staging.rename(target)
    except OSError:
        if aside.exists():
            aside.rename(target)
        raise
    shutil.rmtree(aside, ignore_errors=True)
