"""`edgesparse sign`: an Ed25519 signature in a bundle."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from edgesparse_runtime.bundle.names import SIGNATURE_NAME
from edgesparse_runtime.bundle.read import all_files, open_bundle
from edgesparse_runtime.bundle.signature import make_key_pair, public_path
from edgesparse_runtime.bundle.signature import sign as sign_bytes
from edgesparse_runtime.bundle.write import store_files
from edgesparse_runtime.cli.options import BundleArgument, Request
from edgesparse_runtime.cli.output import print_fields, print_json
from edgesparse_runtime.cli.require import require
from edgesparse_runtime.errors import InputError


@dataclass(frozen=True, kw_only=True)
class SignRequest(Request):
    """Arguments and options of `edgesparse sign`."""

    bundle: BundleArgument
    key: Annotated[Path, typer.Option(help="Private Ed25519 key, PEM.", show_default=False)]
    make_key: Annotated[
        bool, typer.Option("--make-key", help="Create the key first, and KEY.pub.pem next to it.")
    ] = False
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a signature made with another key.")
    ] = False


def sign(request: SignRequest) -> None:
    """Sign a bundle; `verify --require-signature KEY.pub.pem` then proves who made it.

    The key's password, if it has one, is read from EDGESPARSE_KEY_PASSWORD.

    Example: edgesparse sign pump.edgesparse --key factory.pem --make-key
    """
    require("sign", "sign", "cryptography")
    bundle, key, make_key = request.bundle, request.key, request.make_key
    opened = open_bundle(bundle)
    if opened.signature is not None and not request.overwrite and make_key:
        raise InputError(_signed_already(bundle))
    made = [key, make_key_pair(key)] if make_key else []
    try:
        signature = sign_bytes(opened.manifest_bytes, key)
        if opened.signature not in (None, signature) and not request.overwrite:
            raise InputError(_signed_already(bundle))
        signed = {**all_files(opened), SIGNATURE_NAME: signature}
        store_files(bundle, signed, archive=opened.is_archive, replacing=opened)
    except BaseException:
        # Keys that signed nothing would stand in the way of the next try.
        for path in made:
            path.unlink(missing_ok=True)
        raise
    if request.as_json:
        print_json("sign", {"bundle": str(bundle), "signature": signature.hex(), "made_key": make_key})
        return
    fields: dict[str, object] = {"signed": f"{bundle} with {key}"}
    if make_key:
        fields["key"] = f"{key} is secret: keep it safe. Copy {public_path(key)} to machines that verify."
    fields["next"] = f"edgesparse verify {bundle} --require-signature {public_path(key)}"
    print_fields(fields)


def _signed_already(bundle: Path) -> str:
    return f"{bundle} is signed with another key. Add --overwrite to replace that signature."
