"""The `edgesparse` command. Verbs are one file each; see app.py for the list."""

from __future__ import annotations

import sys


def main() -> None:
    """Entry point: runs a verb, prints errors as one line, and exits with the code of DESIGN section 5."""
    try:
        from edgesparse_runtime.cli.app import run
    except ModuleNotFoundError as error:
        if error.name not in ("typer", "rich", "click"):
            raise
        print(
            "edgesparse: error: The command line needs typer. Install with: pip install 'edgesparse[cli]'",
            file=sys.stderr,
        )
        sys.exit(4)
    sys.exit(run(sys.argv[1:]))
