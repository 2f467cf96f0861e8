"""`edgesparse verify`: a bundle against its golden vectors, on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgesparse_runtime.cli.output import print_fields, print_json
from edgesparse_runtime.errors import BundleError, GateError
from edgesparse_runtime.verification import verify_path


def verify(
    bundle: Annotated[Path, typer.Argument(help="Bundle to verify.", show_default=False)],
    threads: Annotated[int | None, typer.Option(help="Threads of one prediction. [all usable]")] = None,
    require_signature: Annotated[
        list[Path] | None,
        typer.Option(help="Public key (PEM) that must have signed the bundle; may be repeated."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Check hashes, signature, models and golden vectors on this machine, boundary by boundary.

    Exit 3 when a boundary is broken, 2 when the files are not those of the manifest.

    Example: edgesparse verify pump.edgesparse --require-signature factory.pub.pem
    """
    checks = verify_path(bundle, threads=threads, trusted_keys=require_signature or ())
    broken = [check for check in checks if not check.holds]
    if as_json:
        fields = {"bundle": str(bundle), "holds": not broken, "broken": [c.boundary for c in broken]}
        print_json("verify", {**fields, "checks": [c.to_dict() for c in checks]})
    elif not (broken and broken[0].boundary == "hashes"):
        print_fields(
            {
                c.boundary: ("pass" if c.holds else "BROKEN") + (f": {c.detail}" if c.detail else "")
                for c in checks
            }
        )
    if broken and broken[0].boundary == "hashes":
        raise BundleError(broken[0].detail)
    if broken:
        names = ", ".join(check.boundary for check in broken)
        raise GateError(
            f"{bundle} does not hold on this machine what was recorded where it was made: {names}."
        )
