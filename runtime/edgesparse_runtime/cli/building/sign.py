"""`edgesparse sign`: an Ed25519 signature in a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgesparse_runtime.bundle.names import SIGNATURE_NAME
from edgesparse_runtime.bundle.read import all_files, open_bundle
from edgesparse_runtime.bundle.signature import make_key_pair, public_path
from edgesparse_runtime.bundle.signature import sign as sign_bytes
from edgesparse_runtime.bundle.write import store_files
from edgesparse_runtime.cli.output import print_fields, print_json
from edgesparse_runtime.cli.require import require
from edgesparse_runtime.errors import InputError


def sign(
    bundle: Annotated[Path, typer.Argument(help="Bundle to sign.", show_default=False)],
    key: Annotated[Path, typer.Option(help="Private Ed25519 key, PEM.", show_default=False)],
    make_key: Annotated[
        bool, typer.Option("--make-key", help="Make the key first, and KEY.pub.pem beside it.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace another's signature.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Sign a bundle; `verify --require-signature KEY.pub.pem` then proves who made it.

    The key's password, if it has one, is read from EDGESPARSE_KEY_PASSWORD.

    Example: edgesparse sign pump.edgesparse --key factory.pem --make-key
    """
    require("sign", "sign", "cryptography")
    opened = open_bundle(bundle)
    if opened.signature is not None and not overwrite and make_key:
        raise InputError(_signed_already(bundle))
    if make_key:
        make_key_pair(key)
    signature = sign_bytes(opened.manifest_bytes, key)
    if opened.signature not in (None, signature) and not overwrite:
        raise InputError(_signed_already(bundle))
    store_files(bundle, {**all_files(opened), SIGNATURE_NAME: signature}, archive=opened.is_archive)
    if as_json:
        print_json("sign", {"bundle": str(bundle), "signature": signature.hex(), "made_key": make_key})
        return
    fields: dict[str, object] = {"signed": f"{bundle} with {key}"}
    if make_key:
        fields["key"] = (
            f"{key} is the secret: keep it. {public_path(key)} is for every machine that verifies."
        )
    fields["next"] = f"edgesparse verify {bundle} --require-signature {public_path(key)}"
    print_fields(fields)


def _signed_already(bundle: Path) -> str:
    return f"{bundle} is signed with another key. Add --overwrite to put this signature in its place."
