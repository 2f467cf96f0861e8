"""`edgesparse verify`: a bundle against its golden vectors, on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgesparse_runtime.bundle.read import open_bundle
from edgesparse_runtime.cli.output import print_fields, print_json
from edgesparse_runtime.cli.preflight import check_remote, note_threads
from edgesparse_runtime.errors import BundleError, GateError
from edgesparse_runtime.evaluation.verify import Check, verify_path
from edgesparse_runtime.remote.connection import Target, connect


def verify(
    bundle: Annotated[Path, typer.Argument(help="Bundle to verify.", show_default=False)],
    threads: Annotated[int | None, typer.Option(help="Threads of one prediction. [all usable]")] = None,
    require_signature: Annotated[
        list[Path] | None,
        typer.Option(help="Public key (PEM) that must have signed the bundle; may be repeated."),
    ] = None,
    on: Annotated[str | None, typer.Option(help="Verify there: ssh://user@host:port.")] = None,
    remote_python: Annotated[str, typer.Option(help="Python to run there.")] = "python3",
    wheelhouse: Annotated[
        Path | None, typer.Option(help="Folder of `edgesparse wheelhouse` to take along.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Check hashes, signature, models and golden vectors on this machine, boundary by boundary.

    Exit 3 when a boundary is broken, 2 when the files are not those of the manifest.

    Example: edgesparse verify pump.edgesparse --require-signature factory.pub.pem
    """
    check_remote(on, wheelhouse, remote_python)
    if on is None:
        note_threads(threads)
    checks = _checks(bundle, threads, require_signature or [], on, remote_python, wheelhouse)
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


def _checks(
    bundle: Path,
    threads: int | None,
    keys: list[Path],
    on: str | None,
    remote_python: str,
    wheelhouse: Path | None,
) -> list[Check]:
    if on is None:
        return verify_path(bundle, threads=threads, trusted_keys=keys)
    target = Target.parse(on, remote_python)
    # The keys stay here, and what is sent is what they were checked against.
    open_bundle(bundle, trusted_keys=keys)
    with connect(target, bundle, wheelhouse=wheelhouse) as connection:
        return [Check(**check) for check in connection.verify(threads)]
