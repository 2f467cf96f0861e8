"""Verbs that need more than the base install name what to install."""

from __future__ import annotations

import importlib.util

from edgesparse_runtime.errors import MissingExtraError


def require(verb: str, extra: str, *packages: str) -> None:
    """Refuse, with the extra to install, when a package is missing.

    Raises:
        MissingExtraError: one is missing; names the extra that brings it.
    """
    missing = [p for p in packages if importlib.util.find_spec(p) is None]
    if missing:
        raise MissingExtraError(f"`edgesparse {verb}`", " and ".join(missing), extra)
