"""Targets and counts of a calibration: checked before a model is touched."""

from __future__ import annotations

from typing import Any

from edgesparse_runtime.errors import InputError


def check_targets(density: Any, fidelity: Any) -> None:
    """One of both, and a share.

    Raises:
        InputError: neither or both, no number, or out of range.
    """
    if density is None and fidelity is None:
        raise InputError("One of `density` and `fidelity` must be given; got neither. Use density=0.25.")
    if density is not None and fidelity is not None:
        raise InputError("One of `density` and `fidelity` must be given, not both. Use density=0.25.")
    if density is not None:
        _check_number("density", density)
        if not 0 < density <= 1:
            raise InputError(f"`density` must be above 0 and at most 1; got {density:g}. Use 0.2 to 0.5.")
    if fidelity is not None:
        _check_number("fidelity", fidelity)
        if not 0 < fidelity < 1:
            raise InputError(f"`fidelity` must be above 0 and below 1; got {fidelity:g}. Use 0.99.")


def check_steps(name: str, steps: Any) -> None:
    """A number of steps.

    Raises:
        InputError: no whole number, or below 0.
    """
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 0:
        raise InputError(f"`{name}` must be a whole number, 0 or more; got {steps!r}.")


def _check_number(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InputError(f"`{name}` must be a number; got {value!r}.")
