"""`--fail-if 'accuracy<0.85'`: a bound on a measured figure; exit code 3 when it is violated."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from edgesparse_runtime.errors import GateError, InputError

_UNITS = {"": 1.0, "ms": 1.0, "us": 1e-3, "s": 1e3, "mb": 1.0, "%": 0.01}
# Figures that only come with another option.
NEEDED = {"missed": "`--rate`", "slope_mb": "`--soak` or `--soak-runs`"}
_FORM = re.compile(r"\s*(\w+)\s*(<=|>=|<|>)\s*([0-9.eE+-]+)\s*([a-zA-Z%]*)\s*")


@dataclass(frozen=True)
class Gate:
    """A bound that must not hold.

    Attributes:
        text: as it was given.
        name: of the figure.
        sign: <, >, <= or >=.
        bound: in the figure's own unit.
        stated: the number and unit as they were given.
    """

    text: str
    name: str
    sign: str
    bound: float
    stated: str


def parse_gates(conditions: Sequence[str] | None, known: Collection[str] | None = None) -> list[Gate]:
    """Parse `--fail-if` before anything is measured.

    Args:
        conditions: NAME < or > NUMBER each, with a unit where it helps: 'p99>5ms', 'accuracy<85%'.
        known: figures that will be measured; None where that depends on the data.

    Raises:
        InputError: not of that form, or an unknown figure.
    """
    return [_parse(condition, known) for condition in conditions or ()]


def check_gates(gates: Sequence[Gate], figures: Mapping[str, float]) -> None:
    """Raise when one of them holds for `figures`.

    Raises:
        InputError: a figure that was not measured.
        GateError: the condition holds.
    """
    for gate in gates:
        _check_name(gate.name, figures)
        value, bound = figures[gate.name], gate.bound
        holds = {"<": value < bound, ">": value > bound, "<=": value <= bound, ">=": value >= bound}
        if holds[gate.sign]:
            raise GateError(
                f"gate failed: {gate.name} is {value:.4g}, and must not be {gate.sign} {gate.stated}."
            )


def _parse(condition: str, known: Collection[str] | None) -> Gate:
    match = _FORM.fullmatch(condition)
    if match is None or match[4].lower() not in _UNITS:
        raise InputError(f"`--fail-if` must be like 'p99>5ms'; got {condition!r}.")
    name, sign, number, unit = match.groups()
    if known is not None:
        _check_name(name, known)
    try:
        bound = float(number) * _UNITS[unit.lower()]
    except ValueError:
        raise InputError(f"`--fail-if` must hold a number; got {number!r}.") from None
    return Gate(condition, name, sign, bound, f"{number}{unit}")


def _check_name(name: str, known: Collection[str]) -> None:
    if name in known:
        return
    if name in NEEDED:
        raise InputError(f"`--fail-if {name}` needs {NEEDED[name]}.")
    near = difflib.get_close_matches(name, list(known), n=1)
    hint = f" Did you mean {near[0]}?" if near else f" There are {', '.join(known)}."
    raise InputError(f"`--fail-if` must name a measured figure; got {name!r}.{hint}")
