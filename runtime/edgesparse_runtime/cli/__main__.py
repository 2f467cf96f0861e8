"""`python -m edgesparse_runtime.cli` is `edgesparse`."""

from __future__ import annotations

from edgesparse_runtime.cli import main

main()
