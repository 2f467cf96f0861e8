"""Which bundle is served under which name and version: `[NAME[:VERSION]=]PATH`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgesparse_runtime.errors import InputError

_FORM = re.compile(
    r"(?:(?P<name>[A-Za-z0-9][A-Za-z0-9._-]{0,63})(?::(?P<version>[1-9][0-9]{0,8}))?=)?(?P<path>.+)"
)
_RULE = (
    "NAME must be 1 to 64 letters, digits, '.', '_' or '-' that start with a letter or digit, and VERSION a "
    "whole number from 1 to 999999999"
)
_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True)
class Address:
    """One bundle to serve.

    Attributes:
        name: the model's name in paths.
        version: "1", "2", ...; the highest answers requests without a version.
        path: of the bundle; watched for changes.
    """

    name: str
    version: str
    path: Path


def parse_addresses(arguments: Sequence[str]) -> list[Address]:
    """Parse all arguments; the name defaults to the file's, the version to 1.

    Raises:
        InputError: an argument of another form, or two with the same name and version.
    """
    addresses: list[Address] = []
    for argument in arguments:
        found = _FORM.fullmatch(argument)
        if found is None:
            raise InputError(f"A bundle must be given as [NAME[:VERSION]=]PATH; got {argument!r}.")
        path = Path(found["path"])
        if found["name"] is None and "=" in argument and not path.exists():
            given = argument.partition("=")[0]
            raise InputError(f"In [NAME[:VERSION]=]PATH, {_RULE}; got {given!r}.")
        stem = path.resolve().name.split(".")[0]
        name = found["name"] or _NOT_IN_A_NAME.sub("-", stem).lstrip(".-_")[:64]
        if not name:
            raise InputError(f"{argument} must be given a name: NAME={argument}.")
        address = Address(name, found["version"] or "1", path)
        if any((p.name, p.version) == (address.name, address.version) for p in addresses):
            raise InputError(
                f"Two bundles must not share a name and version; {address.name} version {address.version} "
                f"is given twice. Use {address.name}:{int(address.version) + 1}={path}."
            )
        addresses.append(address)
    return addresses
