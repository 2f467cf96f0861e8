"""How closely two computations of the same thing must agree: the rows of docs/numerics.md.

Set by measurement and never widened without a changelog line.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Tolerance:
    """`|actual - expected| <= absolute + relative * |expected|`."""

    relative: float
    absolute: float


# Sparse module against naive dense-with-mask, gradients too (float64 inputs are not used here).
MODULE = Tolerance(relative=1e-5, absolute=1e-6)
# torch, function body, kernel.
ENGINES = Tolerance(relative=1e-4, absolute=1e-5)
