"""Verbs that need more than the base install say what to install."""

from __future__ import annotations

import importlib.util

from edgesparse_runtime.errors import MissingExtraError


def require(verb: str, extra: str, *packages: str) -> None:
    """Raise a kind error when a package is not installed.

    Raises:
        MissingExtraError: one is missing; names the extra that brings it.
    """
    missing = [p for p in packages if importlib.util.find_spec(p) is None]
    if missing:
        raise MissingExtraError(f"`edgesparse {verb}`", " and ".join(missing), extra)
