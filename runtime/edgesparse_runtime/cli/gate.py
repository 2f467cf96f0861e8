"""`--fail-if 'accuracy<0.85'`: a bound on a measured figure; exit code 3 when it is broken."""

from __future__ import annotations

import difflib
import re

from edgesparse_runtime.errors import GateError, InputError

_UNITS = {"": 1.0, "ms": 1.0, "us": 1e-3, "s": 1e3, "mb": 1.0, "%": 0.01}
_FORM = re.compile(r"\s*(\w+)\s*(<=|>=|<|>)\s*([0-9.eE+-]+)\s*([a-zA-Z%]*)\s*")


def check_gate(condition: str, figures: dict[str, float]) -> None:
    """Raise when `condition` holds for `figures`.

    Args:
        condition: NAME < or > NUMBER, with a unit where it helps: 'p99>5ms', 'accuracy<85%'.

    Raises:
        InputError: not of that form, or an unknown figure.
        GateError: the condition holds.
    """
    match = _FORM.fullmatch(condition)
    if match is None or match[4].lower() not in _UNITS:
        raise InputError(f"`--fail-if` must be like 'p99>5ms'; got {condition!r}.")
    name, sign, number, unit = match.groups()
    if name not in figures:
        near = difflib.get_close_matches(name, list(figures), n=1)
        hint = f" Did you mean {near[0]}?" if near else f" There are {', '.join(figures)}."
        raise InputError(f"`--fail-if` must name a measured figure; got {name!r}.{hint}")
    try:
        bound = float(number) * _UNITS[unit.lower()]
    except ValueError:
        raise InputError(f"`--fail-if` must hold a number; got {number!r}.") from None
    value = figures[name]
    broken = {"<": value < bound, ">": value > bound, "<=": value <= bound, ">=": value >= bound}[sign]
    if broken:
        raise GateError(f"gate failed: {name} is {value:.4g}, and must not be {sign} {number}{unit}.")
