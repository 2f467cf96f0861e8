"""A bundle: a folder or an archive NAME.edgesparse that holds a model, its manifest and golden vectors.

Written atomically, opened only when whole: every file has its size and sha256 in the manifest, and nothing
else lies beside them.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy.typing as npt

from edgesparse_runtime.bundle.atomic import put_in_place, staging_folder, write_durably
from edgesparse_runtime.bundle.manifest import (
    FILE_NAME,
    LARGEST_MANIFEST,
    SCHEMA_VERSION,
    SIGNATURE_NAME,
    Manifest,
    is_plain_name,
    parse_manifest,
)
from edgesparse_runtime.bundle.npz import read_arrays
from edgesparse_runtime.bundle.signature import SIGNATURE_SIZE, check_signature
from edgesparse_runtime.bundle.source import (
    LARGEST_BUNDLE,
    BundleSource,
    file_hash,
    find_source,
    is_archive,
    read_file,
)
from edgesparse_runtime.errors import BundleError, InputError

SUFFIX = ".edgesparse"
GOLDEN = "golden.npz"
# Fields that are about the files and not about the model.
_OUTSIDE = ("schema_version", "edgesparse", "created", "files")
# Another writer may put a new bundle in place while this one is read.
_ATTEMPTS = 5


@dataclass(frozen=True)
class Bundle:
    """An opened bundle.

    Attributes:
        path: its folder or archive.
        manifest: what the manifest says (docs/bundle.md), brought up to the newest schema version.
        source: where its files are read from.
        manifest_bytes: the manifest as it lies there; this is what a signature signs.
        signature: 64 bytes, or None where there is none. `open_bundle` checks it when it is given keys.
    """

    path: Path
    manifest: Manifest
    source: BundleSource
    manifest_bytes: bytes
    signature: bytes | None = None

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

    @property
    def is_archive(self) -> bool:
        return self.source.is_archive

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
        return str(models[precision]["file"])

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
        if _hash(content) != entry["sha256"]:
            raise BundleError(
                f"{self.path}: {name} does not match its hash. Copy or export the bundle again."
            )
        return content

    def golden(self) -> dict[str, npt.NDArray[Any]]:
        """Golden vectors: `windows` [n, channels, time], `scores_<precision>` [n, k] and, since schema
        version 2, `selection_<precision>.<layer>` bool [n, heads, query blocks, key blocks].
        """
        return read_arrays(self.read(GOLDEN), f"{self.path}: {GOLDEN}")

    def check_unchanged(self) -> None:
        """Say so when another bundle was put in this one's place since it was opened.

        Raises:
            BundleError: it was, or it is gone.
        """
        try:
            now = _read_manifest_bytes(find_source(self.path))
        except OSError:
            now = b""
        if now != self.manifest_bytes:
            raise BundleError(f"{self.path} was replaced while it was opened. Open it again.")


def open_bundle(path: str | Path, *, trusted_keys: Sequence[Path] = ()) -> Bundle:
    """Open a bundle, a folder or an archive, checking its manifest and every hash.

    Args:
        trusted_keys: files of Ed25519 public keys (PEM); when there are any, the bundle must be signed by
            one of them.

    Raises:
        InputError: there is nothing at `path`.
        BundleError: it is not a bundle, is damaged, is of an unknown version, or is not signed as asked.
        MissingExtraError: a signature is to be checked and `cryptography` is not installed.
    """
    place = Path(path)
    if not place.exists():
        raise InputError(f"{place} must be a bundle; there is nothing of that name.")
    for attempt in range(_ATTEMPTS):
        source = find_source(place)
        before = _read_manifest_bytes(source)
        try:
            return _open(source, before, trusted_keys)
        except BundleError:
            # Damaged, or replaced half-way through: only the second is worth another look.
            if attempt == _ATTEMPTS - 1 or _read_manifest_bytes(find_source(place)) == before:
                raise
    raise AssertionError("unreachable")


def _open(source: BundleSource, manifest_bytes: bytes, trusted_keys: Sequence[Path]) -> Bundle:
    path, sizes = source.path, source.sizes()
    manifest = parse_manifest(manifest_bytes, path)
    signature = None
    if SIGNATURE_NAME in sizes:
        signature = read_file(source, SIGNATURE_NAME, SIGNATURE_SIZE)
    if trusted_keys:
        check_signature(manifest_bytes, signature, trusted_keys, path)
    _check_files(source, sizes, manifest)
    return Bundle(path, manifest, source, manifest_bytes, signature)


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _read_manifest_bytes(source: BundleSource) -> bytes:
    try:
        size = source.sizes()[FILE_NAME]
        if size > LARGEST_MANIFEST:
            raise BundleError(f"{source.path}: a manifest must be at most {LARGEST_MANIFEST >> 20} MB.")
        return read_file(source, FILE_NAME, size)
    except (KeyError, FileNotFoundError):
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


def write_bundle(
    path: str | Path, files: Mapping[str, bytes], fields: Manifest, *, archive: bool | None = None
) -> Bundle:
    """Write a bundle, whole or not at all; an existing bundle at `path` is replaced.

    Args:
        files: content by plain file name, `model.onnx` among them.
        fields: the manifest's fields but those about files, versions and time.
        archive: as one file; None = as what is there, else a folder.

    Raises:
        InputError: `path` exists and is not a bundle, or is one of the other form.
    """
    manifest = {
        "schema_version": SCHEMA_VERSION,
        "edgesparse": tool_version(),
        "created": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "dense": {},
        "breakeven": [],
        **fields,
        "files": {name: {"bytes": len(c), "sha256": _hash(c)} for name, c in sorted(files.items())},
    }
    text = json.dumps(manifest, indent=2, allow_nan=False) + "\n"
    return store_files(path, {**files, FILE_NAME: text.encode()}, archive=archive)


def rewrite_bundle(
    bundle: Bundle, files: Mapping[str, bytes], fields: Manifest, *, without: Collection[str] = ()
) -> Bundle:
    """Write the bundle anew with some files added or replaced and some manifest fields changed.

    A signature is dropped: what it signed is no more.

    Args:
        without: names of files to leave out.
    """
    names = [name for name in bundle.manifest["files"] if name not in files and name not in without]
    kept = {name: bundle.read(name) for name in names}
    before = {key: value for key, value in bundle.manifest.items() if key not in _OUTSIDE}
    return write_bundle(bundle.path, {**kept, **files}, {**before, **fields}, archive=bundle.is_archive)


def store_files(path: str | Path, files: Mapping[str, bytes], *, archive: bool | None = None) -> Bundle:
    """Write a bundle's files, manifest included, whole or not at all, and open the result.

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
        open_bundle(new)
        put_in_place(new, target)
    return open_bundle(target)


def pack_files(files: Mapping[str, bytes]) -> bytes:
    """A zip file of `files`: the same bytes for the same content."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in sorted(files.items()):
            info = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            info.compress_type, info.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            archive.writestr(info, content)
    return stream.getvalue()


def all_files(bundle: Bundle) -> dict[str, bytes]:
    """Every file of a bundle as it lies there, manifest and signature included."""
    files = {name: bundle.read(name) for name in bundle.manifest["files"]}
    files[FILE_NAME] = bundle.manifest_bytes
    return files if bundle.signature is None else {**files, SIGNATURE_NAME: bundle.signature}


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


def tool_version() -> str:
    """This distribution's version."""
    # Not at the top: it brings email, socket and forty more modules, which a runner has no use for.
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("edgesparse")
    except PackageNotFoundError:
        return "0+source"
