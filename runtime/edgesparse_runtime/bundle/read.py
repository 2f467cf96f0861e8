"""Opens a bundle: a folder or an archive NAME.edgesparse of a model, its manifest and golden vectors.

It opens only when whole: every file has its size and sha256 in the manifest, and nothing else is there.
What is read from it later is held to the same hashes, so an opened bundle is one thing from its check to its
use, whatever happens to its path.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from edgesparse_runtime.bundle.manifest import parse_manifest
from edgesparse_runtime.bundle.names import (
    FILE_NAME,
    GOLDEN,
    LARGEST_BUNDLE,
    LARGEST_MANIFEST,
    SIGNATURE_NAME,
    SIGNATURE_SIZE,
    SUFFIX,
)
from edgesparse_runtime.bundle.source import BundleSource, file_hash, find_source, read_file
from edgesparse_runtime.errors import BundleError, InputError

if TYPE_CHECKING:
    from edgesparse_runtime.bundle.manifest_types import Manifest

# Writers may replace a bundle again and again while a slow reader reads it.
_SECONDS, _PAUSE_SECONDS = 10.0, 0.02


@dataclass(frozen=True)
class Bundle:
    """An opened bundle.

    Attributes:
        path: its folder or archive.
        manifest: the manifest (docs/reference/bundle.md), brought up to the newest schema version.
        source: where its files are read from.
        manifest_bytes: the manifest as it lies there; this is what a signature signs.
        signature: 64 bytes, or None where there is none. `open_bundle` checks it when it is given keys.
    """

    path: Path
    manifest: Manifest = field(repr=False)
    source: BundleSource
    manifest_bytes: bytes = field(repr=False)
    signature: bytes | None = None

    @property
    def name(self) -> str:
        return self.manifest["name"]

    @property
    def task(self) -> str:
        return self.manifest["task"]

    @property
    def channels(self) -> tuple[str, ...]:
        return tuple(channel["name"] for channel in self.manifest["channels"])

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(self.manifest["classes"])

    @property
    def precisions(self) -> tuple[str, ...]:
        return tuple(self.manifest["models"])

    @property
    def is_archive(self) -> bool:
        return self.source.is_archive

    @property
    def sha256(self) -> str:
        """Hash of the manifest, which holds the hash of every other file: it identifies the whole bundle."""
        return hashlib.sha256(self.manifest_bytes).hexdigest()

    def model_file(self, precision: str) -> str:
        """The name of the ONNX file of a precision.

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
        return models[precision]["file"]

    def model_path(self, precision: str) -> Path:
        """The path of the ONNX file of a precision, in a bundle that is a folder.

        Raises:
            InputError: the bundle has no such model, or is an archive.
        """
        if self.is_archive:
            raise InputError(
                f"{self.path} must be a folder here; it is an archive. "
                f"Run `edgesparse unpack {self.path} -o FOLDER{SUFFIX}` first."
            )
        return self.path / self.model_file(precision)

    def read(self, name: str) -> bytes:
        """The content of a file; its size is checked before it is read, and its hash after.

        Raises:
            BundleError: it is not what it was when the bundle was opened.
        """
        if name not in self.manifest["files"]:
            raise BundleError(f"{self.path} must hold {name}. Export the bundle again.")
        entry = self.manifest["files"][name]
        content = read_file(self.source, name, entry["bytes"])
        if hashlib.sha256(content).hexdigest() != entry["sha256"]:
            raise BundleError(
                f"{self.path}: {name} does not match its hash. Copy or export the bundle again."
            )
        return content

    def golden(self) -> dict[str, npt.NDArray[Any]]:
        """Golden vectors: `windows` [n, channels, time], `scores_<precision>` [n, k] and, since schema
        version 2, `selection_<precision>.<layer>` bool [n, heads, query blocks, key blocks].
        """
        # Predictions need none.
        from edgesparse_runtime.bundle.npz import read_arrays

        return read_arrays(self.read(GOLDEN), f"{self.path}: {GOLDEN}")

    def check_unchanged(self) -> None:
        """Fail when another bundle was put in this one's place since it was opened.

        Raises:
            BundleError: it was, or it is gone.
        """
        try:
            now = _read_manifest_bytes(find_source(self.path))
        except OSError:
            now = b""
        if now != self.manifest_bytes:
            raise BundleError(f"{self.path} was replaced while it was in use. Open it again.")


def open_bundle(path: str | Path, *, trusted_keys: Sequence[Path] = ()) -> Bundle:
    """Open a bundle, a folder or an archive, checking its manifest and every hash.

    Args:
        trusted_keys: files of Ed25519 public keys (PEM); when there are any, the bundle must be signed by
            one of them.

    Raises:
        InputError: there is nothing at `path`.
        BundleError: it is not a bundle, is damaged, is of an unknown version, or is not signed as required.
        MissingExtraError: a signature is to be checked and `cryptography` is not installed.
    """
    place = Path(path)
    before: object = 0
    end = time.monotonic() + _SECONDS
    while True:
        try:
            return _open(find_source(place), trusted_keys)
        except (BundleError, OSError) as error:
            # Damaged, or replaced while it was read: it is damaged when two looks at one thing agree.
            now = _identity(place)
            if now == before or (before != 0 and time.monotonic() > end):
                if isinstance(error, BundleError):
                    raise
                if isinstance(error, FileNotFoundError) and now is None:
                    raise InputError(f"{place}: no such file or folder.") from None
                reason = error.strerror or str(error)
                raise BundleError(f"{place} cannot be read; {reason}.") from None
            before = now
            time.sleep(_PAUSE_SECONDS)


def all_files(bundle: Bundle) -> dict[str, bytes]:
    """Every file of a bundle as it lies there, manifest and signature included."""
    files = {name: bundle.read(name) for name in bundle.manifest["files"]}
    files[FILE_NAME] = bundle.manifest_bytes
    return files if bundle.signature is None else {**files, SIGNATURE_NAME: bundle.signature}


def _identity(place: Path) -> tuple[int, int, int] | None:
    """Differs when another file or folder has taken the path, or a folder's list of names has changed."""
    try:
        found = place.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns


def _open(source: BundleSource, trusted_keys: Sequence[Path]) -> Bundle:
    manifest_bytes = _read_manifest_bytes(source)
    path, sizes = source.path, source.sizes()
    signature = None
    if SIGNATURE_NAME in sizes:
        signature = read_file(source, SIGNATURE_NAME, SIGNATURE_SIZE)
    if trusted_keys:
        # Signatures are an extra, and few runners check them.
        from edgesparse_runtime.bundle.signature import check_signature

        check_signature(manifest_bytes, signature, trusted_keys, path)
    # Nothing that is not its maker's is interpreted.
    manifest = parse_manifest(manifest_bytes, path)
    _check_files(source, sizes, manifest)
    return Bundle(path, manifest, source, manifest_bytes, signature)


def _read_manifest_bytes(source: BundleSource) -> bytes:
    try:
        size = source.sizes()[FILE_NAME]
        if size > LARGEST_MANIFEST:
            raise BundleError(f"{source.path}: a manifest must be at most {LARGEST_MANIFEST >> 20} MB.")
        return read_file(source, FILE_NAME, size)
    except KeyError:
        raise BundleError(f"{source.path} is not a bundle: it has no {FILE_NAME}.") from None


def _check_files(source: BundleSource, sizes: dict[str, int], manifest: Manifest) -> None:
    files, path = manifest["files"], source.path
    for name in sizes:
        if name not in files and name not in (FILE_NAME, SIGNATURE_NAME):
            raise BundleError(f"{path}: {name} is not in the manifest. Remove it, or copy the bundle again.")
    if sum(entry["bytes"] for entry in files.values()) > LARGEST_BUNDLE:
        raise BundleError(f"{path}: a bundle must hold at most {LARGEST_BUNDLE >> 30} GB.")
    for name, entry in files.items():
        if name not in sizes:
            raise BundleError(f"{path}: {name} is missing. Copy or export the bundle again.")
        if sizes[name] != entry["bytes"] or file_hash(source, name) != entry["sha256"]:
            raise BundleError(f"{path}: {name} does not match its hash. Copy or export the bundle again.")
