"""A limited number of places for sources: who is silent gives its place to who speaks."""

from __future__ import annotations

from typing import Generic, TypeVar

Name = TypeVar("Name")

# Seconds of silence after which a place may be given away while all are taken: a name that came once may be a
# flood's, one that has sent more may be a slow sensor's.
ONCE_SILENT = 60.0
SILENT = 3600.0


class Places(Generic[Name]):
    """Up to `most` names, each with the moment of its last line in seconds of any clock."""

    def __init__(self, most: int) -> None:
        self._most = most
        # Both in the order of their last line.
        self._once: dict[Name, float] = {}
        self._more: dict[Name, float] = {}

    @property
    def is_full(self) -> bool:
        return len(self._once) + len(self._more) >= self._most

    def note(self, name: Name, now: float) -> None:
        """The name has sent a line; it has a place from now on."""
        if name in self._more or name in self._once:
            self._once.pop(name, None)
            self._more.pop(name, None)
            self._more[name] = now
        else:
            self._once[name] = now

    def find_silent(self, now: float) -> Name | None:
        """The name whose place may be given away, if there is one."""
        for names, silence in ((self._once, ONCE_SILENT), (self._more, SILENT)):
            name = next(iter(names), None)
            if name is not None and now - names[name] > silence:
                return name
        return None

    def forget(self, name: Name) -> None:
        """The name has no place any more."""
        self._once.pop(name, None)
        self._more.pop(name, None)
