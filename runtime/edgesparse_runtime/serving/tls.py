"""Certificate and key of a server, tried before anything else is done: what is wrong is said by name."""

from __future__ import annotations

import ssl
from pathlib import Path

from edgesparse_runtime.errors import InputError

# What OpenSSL says of a certificate that it can read and will not use.
_WEAK = ("EE_KEY_TOO_SMALL", "CA_KEY_TOO_SMALL", "CA_MD_TOO_WEAK")


def check_tls(certificate: Path | None, key: Path | None) -> None:
    """Both files are readable PEM, strong enough for OpenSSL, and belong together; None, None passes.

    Raises:
        InputError: one of them is not; names the option.
    """
    if certificate is None or key is None:
        return
    for option, path in (("--tls-cert", certificate), ("--tls-key", key)):
        try:
            path.read_bytes()
        except OSError as error:
            raise InputError(f"`{option}` {path} must be a readable file; {error.strerror}.") from None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_verify_locations(cafile=certificate)
    except ssl.SSLError:
        raise InputError(f"`--tls-cert` {certificate} must hold certificates in PEM; it does not.") from None

    def refuse_password() -> str:
        raise InputError(f"`--tls-key` {key} must not be encrypted; nobody is there to type its password.")

    try:
        context.load_cert_chain(certificate, key, refuse_password)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise InputError(f"`--tls-key` {key} must be the key of `--tls-cert` {certificate}.") from None
        if error.reason in _WEAK:
            raise InputError(f"`--tls-cert` {certificate} must be strong enough; {error.reason}.") from None
        raise InputError(f"`--tls-key` {key} must hold a private key in PEM; it does not.") from None
