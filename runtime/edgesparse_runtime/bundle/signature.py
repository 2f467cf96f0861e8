"""Ed25519 signatures of bundles.

`manifest.sig` holds the 64 bytes of a plain Ed25519 signature of manifest.json, which holds the sha256 of
every other file. So one signature covers all, and any tool can check it:
`openssl pkeyutl -verify -pubin -inkey KEY.pub.pem -rawin -in manifest.json -sigfile manifest.sig`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgesparse_runtime.bundle.atomic import write_new
from edgesparse_runtime.errors import BundleError, InputError, MissingExtraError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

PASSWORD_VARIABLE = "EDGESPARSE_KEY_PASSWORD"
_LARGEST_KEY = 1 << 16


def check_signature(
    manifest_bytes: bytes, signature: bytes | None, trusted_keys: Sequence[Path], path: Path
) -> None:
    """Check that one of the keys signed these bytes.

    Raises:
        BundleError: there is no signature, or none of the keys made it.
        InputError: a key cannot be read.
        MissingExtraError: `cryptography` is not installed.
    """
    keys = [_read_public_key(key) for key in trusted_keys]
    if signature is None:
        raise BundleError(
            f"{path} must be signed; it has no signature. Request a signed one from whoever made it."
        )
    from cryptography.exceptions import InvalidSignature

    for key in keys:
        try:
            key.verify(signature, manifest_bytes)
            return
        except InvalidSignature:
            continue
    names = ", ".join(str(key) for key in trusted_keys)
    raise BundleError(
        f"{path} must be signed by {names}; it was signed with another key, or changed since. Do not use it."
    )


def sign(manifest_bytes: bytes, key: Path) -> bytes:
    """The signature of these bytes by the private key in a PEM file.

    Raises:
        InputError: the key cannot be read, or its password (EDGESPARSE_KEY_PASSWORD) is wrong.
        MissingExtraError: `cryptography` is not installed.
    """
    return _read_private_key(key).sign(manifest_bytes)


def make_key_pair(key: Path) -> Path:
    """Write a new private key, readable by its owner only, and its public half beside it.

    Returns:
        The public key's path: NAME.pub.pem for NAME.pem.

    Raises:
        InputError: one of the two files exists.
        MissingExtraError: `cryptography` is not installed.
    """
    _require_cryptography()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import (
        BestAvailableEncryption,
        Encoding,
        KeySerializationEncryption,
        NoEncryption,
        PrivateFormat,
        PublicFormat,
    )

    public = public_path(key)
    for path in (key, public):
        if path.exists():
            raise InputError(f"{path} exists. Choose another name, or leave out `--make-key`.")
    made = Ed25519PrivateKey.generate()
    password = _password()
    encryption: KeySerializationEncryption = NoEncryption()
    if password:
        encryption = BestAvailableEncryption(password)
    secret = made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)
    open_half = made.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    write_new(key, secret, mode=0o600)
    try:
        write_new(public, open_half, mode=0o644)
    except OSError:
        key.unlink(missing_ok=True)
        raise
    return public


def public_path(key: Path) -> Path:
    """Where the public half of a private key lies."""
    return key.with_name(key.name.removesuffix(".pem") + ".pub.pem")


def _read_public_key(path: Path) -> Ed25519PublicKey:
    _require_cryptography()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(_read_key(path))
    except (ValueError, UnsupportedAlgorithm):
        raise InputError(f"{path} must be a public key in PEM form, as KEY.pub.pem is.") from None
    if not isinstance(key, Ed25519PublicKey):
        raise InputError(f"{path} must be an Ed25519 key. Make one with `edgesparse sign --make-key`.")
    return key


def _read_private_key(path: Path) -> Ed25519PrivateKey:
    _require_cryptography()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        if not path.exists():
            raise InputError(f"{path}: no such file. Add `--make-key` to create it.")
        key = load_pem_private_key(_read_key(path), _password())
    except TypeError:
        raise InputError(f"{path}: the key and `{PASSWORD_VARIABLE}` must go together.") from None
    except (ValueError, UnsupportedAlgorithm):
        raise InputError(
            f"{path} must be a private key in PEM form, and `{PASSWORD_VARIABLE}` its password if it has one."
        ) from None
    if not isinstance(key, Ed25519PrivateKey):
        raise InputError(f"{path} must be an Ed25519 key. Make one with `edgesparse sign --make-key`.")
    return key


def _read_key(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(_LARGEST_KEY)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}.") from None


def _password() -> bytes | None:
    return os.environ.get(PASSWORD_VARIABLE, "").encode() or None


def _require_cryptography() -> None:
    try:
        import cryptography  # noqa: F401
    except ModuleNotFoundError:
        raise MissingExtraError("A signature", "cryptography", "sign") from None
