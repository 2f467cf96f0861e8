"""The version of this distribution, which every bundle names."""

from __future__ import annotations


def tool_version() -> str:
    """This distribution's version; `0+source` when it is not installed."""
    # Not at the top: it brings email, socket and forty more modules, which a runner has no use for.
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("edgesparse")
    except PackageNotFoundError:
        return "0+source"
