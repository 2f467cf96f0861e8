"""Certificate and key of a server, checked before anything else; errors name the option."""

from __future__ import annotations

import ssl
from pathlib import Path

from edgesparse_runtime.errors import InputError

# OpenSSL's reasons for rejecting a certificate that it can read.
_WEAK = ("EE_KEY_TOO_SMALL", "CA_KEY_TOO_SMALL", "CA_MD_TOO_WEAK")


def check_tls(certificate: Path | None, key: Path | None) -> None:
    """Check that both files are readable PEM, strong enough for OpenSSL, and a pair; None, None passes.

    Raises:
        InputError: one of the checks failed.
    """
    if certificate is None or key is None:
        return
    for option, path in (("--tls-cert", certificate), ("--tls-key", key)):
        try:
            path.read_bytes()
        except OSError as error:
            raise InputError(f"`{option}` {path}: {(error.strerror or str(error)).lower()}.") from None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_verify_locations(cafile=certificate)
    except ssl.SSLError:
        raise InputError(f"`--tls-cert` {certificate} must hold PEM certificates; it does not.") from None

    def refuse_password() -> str:
        raise InputError(f"`--tls-key` {key} must not be encrypted; a server cannot enter its password.")

    try:
        context.load_cert_chain(certificate, key, refuse_password)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise InputError(f"`--tls-key` {key} must be the key of `--tls-cert` {certificate}.") from None
        if error.reason in _WEAK:
            raise InputError(f"`--tls-cert` {certificate} must be strong enough; {error.reason}.") from None
        raise InputError(f"`--tls-key` {key} must hold a PEM private key; it does not.") from None
