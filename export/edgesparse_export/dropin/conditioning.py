"""How far rounding alone moves a model's output: by so much a token that amplifies it may differ.

In trained encoders there are tokens, one in thousands, whose states hang on differences of large numbers: in
Whisper, a change of its input in the last bit moved such a token by 2e-4 of its largest entry, and the others
by 1e-6. Engines that add in another order then differ there more than any fixed bound allows, and neither is
wrong.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

FloatArray = npt.NDArray[np.float32]

# Of a weight: half of what its last bit is worth, at most.
LAST_BIT = 2.0**-24
NUDGES = 3


def find_rounding(model: nn.Module, run: Callable[[], FloatArray], expected: FloatArray) -> FloatArray:
    """The largest change of each output when every weight is nudged by its last bit, up or down, three times.

    Args:
        run: the model's output as it is now.
        expected: the same before.

    Returns:
        In the shape of the output. The model's weights are as they were.
    """
    generator = torch.Generator().manual_seed(0)
    before = {name: x.clone() for name, x in model.named_parameters()}
    moved = np.zeros_like(expected)
    try:
        for _ in range(NUDGES):
            with torch.no_grad():
                for name, x in model.named_parameters():
                    sign = torch.randint(0, 2, x.shape, generator=generator) * 2 - 1
                    x.copy_(before[name] * (1 + 2 * LAST_BIT * sign.to(x.dtype)))
            moved = np.maximum(moved, np.abs(run() - expected))
    finally:
        with torch.no_grad():
            for name, x in model.named_parameters():
                x.copy_(before[name])
    return moved
