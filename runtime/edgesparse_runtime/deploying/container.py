"""A Containerfile that serves a bundle."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from edgesparse_runtime.bundle.read import Bundle
from edgesparse_runtime.data.escape import quote_yaml
from edgesparse_runtime.deploying.names import cluster_name, plain_name
from edgesparse_runtime.deploying.templates import fill
from edgesparse_runtime.errors import InputError

PORT = 8080
# A user that is nobody on the host.
_USER = 65532
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def make_containerfile(
    bundle: Bundle, *, options: Sequence[str] = (), trusted_keys: Sequence[Path] = ()
) -> str:
    """Text of a Containerfile; built in a folder that holds the bundle, a wheel of edgesparse and the keys.

    Args:
        options: further ones of `edgesparse serve`.
        trusted_keys: public keys; the server in the container requires a signature by one of them, whatever
            bundle takes this one's place later.

    Raises:
        InputError: the bundle's or a key's file name would need quoting.
    """
    name, file = plain_name(bundle), bundle_file_name(bundle)
    keys = [_plain_file_name(key, "A key") for key in trusted_keys]
    command = [
        *("edgesparse", "serve", f"{name}=/models/{file}", "--host", "0.0.0.0"),
        *("--port", str(PORT), "--token-file", "/run/secrets/token"),
        *(part for key in keys for part in ("--require-signature", f"/keys/{key}")),
        *options,
    ]
    return fill(
        "Containerfile",
        name=name,
        image=cluster_name(bundle),
        file=file,
        port=PORT,
        user=_USER,
        extras="serve,sign" if keys else "serve",
        copied_keys="".join(f"COPY {key} /keys/{key}\n" for key in keys),
        command=f"[{', '.join(map(quote_yaml, command))}]",
    )


def bundle_file_name(bundle: Bundle) -> str:
    """The bundle's file name, which a container file holds as it is.

    Raises:
        InputError: it would need quoting.
    """
    return _plain_file_name(bundle.path, "The bundle")


def _plain_file_name(path: Path, what: str) -> str:
    """Spaces split arguments there, `$` and `*` are expanded, and a line break ends an instruction."""
    name = path.absolute().name
    if not _PLAIN.fullmatch(name):
        raise InputError(
            f"{what}'s file name must be of letters, digits, `.`, `_` and `-` for a container, and start "
            f"with a letter or digit; got {name!r}. Rename the file."
        )
    return name
