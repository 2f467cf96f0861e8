"""How closely two computations of the same thing must agree: the rows of docs/reference/numerics.md.

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

# How near to `top_p` a sum of shares may be for two engines to differ about one block (seen: 3e-8).
SELECTION_EDGE = 1e-6

# Exported drop-in model against torch: of a token's largest entry, and absolute.
DROPIN_OF_LARGEST = Tolerance(relative=1e-4, absolute=1e-5)

# Float kernel against float64, largest and root mean square error: times those of naive float32.
KERNEL_OVER_NAIVE = 2.0
# int8 kernel against float64, root mean square of the error over that of the output, inputs of unit variance.
INT8_RMS = 0.02
# The same where logits reach hundreds (queries 30 times as large).
INT8_RMS_LARGE_LOGITS = 0.06
# The same over that of the values, which does not grow where an output cancels out.
INT8_OF_VALUES = 0.01
# int8 linear layer against its function body, root mean square of the error over that of the product.
INT8_LINEAR_RMS = 0.012

# Training on two processes against one: final weights, and the loss of each epoch.
PROCESSES = Tolerance(relative=1e-5, absolute=1e-5)
PROCESSES_LOSS = Tolerance(relative=1e-5, absolute=1e-6)
