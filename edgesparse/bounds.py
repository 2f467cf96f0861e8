"""Bounds of a configuration's fields: they are in the field's metadata, and one function checks them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

from edgesparse_runtime.errors import InputError

T = TypeVar("T")


@dataclass(frozen=True)
class Bound:
    """One rule for a field's values.

    Attributes:
        text: what a value must be, for messages.
        holds: whether a value is that; None is within bounds where it is the default, and only there.
        hint: what to do next, for messages.
    """

    text: str
    holds: Callable[[Any], bool]
    hint: str = ""


FINITE = Bound("finite", math.isfinite)


def at_least(least: float, hint: str = "") -> Bound:
    return Bound(f"at least {least}", lambda value: bool(value >= least), hint)


def at_most(most: float, hint: str = "") -> Bound:
    return Bound(f"at most {most}", lambda value: bool(value <= most), hint)


def above(low: float) -> Bound:
    return Bound(f"above {low}", lambda value: bool(value > low))


def both(first: Bound, second: Bound, hint: str = "") -> Bound:
    """One sentence for two bounds."""
    text = f"{first.text} and {second.text}"
    return Bound(text, lambda value: first.holds(value) and second.holds(value), hint)


def below(high: float) -> Bound:
    return Bound(f"below {high}", lambda value: bool(value < high))


def one_of(*names: str) -> Bound:
    return Bound(f"{', '.join(names[:-1])} or {names[-1]}", lambda value: value in names)


def bounded(default: T, *bounds: Bound) -> T:
    """A dataclass field with its default and its bounds."""
    found: T = field(default=default, metadata={"bounds": bounds})
    return found


def check_bounds(config: Any) -> None:
    """Hold every field of a configuration to its bounds, in the order of the fields.

    Raises:
        InputError: the first value that is out of bounds.
    """
    for entry in fields(config):
        value = getattr(config, entry.name)
        if value is None and entry.default is None:
            continue
        for bound in entry.metadata.get("bounds", ()):
            if value is None or not bound.holds(value):
                shown = list(value) if isinstance(value, tuple) else value
                hint = f" {bound.hint}" if bound.hint else ""
                raise InputError(f"`{entry.name}` must be {bound.text}; got {shown}.{hint}")
