"""`edgesparse verify`: a bundle against its golden vectors, on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgesparse_runtime.bundle import open_bundle
from edgesparse_runtime.cli.output import print_fields, print_json
from edgesparse_runtime.errors import GateError
from edgesparse_runtime.verification import verify as verify_bundle


def verify(
    bundle: Annotated[Path, typer.Argument(help="Bundle to verify.", show_default=False)],
    threads: Annotated[int | None, typer.Option(help="Threads of one prediction. [all usable]")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Check hashes and golden vectors on this machine; exit 3 when a boundary is broken.

    Example: edgesparse verify pump.edgesparse
    """
    opened = open_bundle(bundle)
    checks = verify_bundle(opened, threads=threads)
    if as_json:
        holds = all(check.holds for check in checks)
        print_json("verify", {"bundle": str(bundle), "holds": holds, "checks": [c.to_dict() for c in checks]})
    else:
        fields: dict[str, object] = {"hashes": f"pass ({len(opened.manifest['files'])} files)"}
        for check in checks:
            fields[check.boundary] = (
                f"{'pass' if check.holds else 'BROKEN'}: largest difference {check.largest_difference:.1e}, "
                f"{check.decisions_flipped} decisions flipped, {check.engine}"
            )
        print_fields(fields)
    broken = [check.boundary for check in checks if not check.holds]
    if broken:
        raise GateError(f"{bundle} does not say here what it said where it was made: {', '.join(broken)}.")
