"""Which window a mask function of transformers describes, and how a mask tells the attention function of it.

The attention function sees a layer's mask and a number `sliding_window` whose meaning differs by family (the
radius, or one more). The mask function alone says what is meant, so it marks the mask that it returns.
"""

from __future__ import annotations

from types import FunctionType
from typing import Any

from torch import Tensor
from transformers.masking_utils import (
    sliding_window_bidirectional_mask_function,
    sliding_window_causal_mask_function,
)

_MARK = "edgesparse_window"


def mark(mask: Tensor, window: tuple[int, int] | None) -> Tensor:
    """The mask, which knows the window of tokens before and behind each token; None = no window."""
    setattr(mask, _MARK, window)
    return mask


def window_of(mask: Tensor | None) -> tuple[int, int] | None:
    """What `mark` said of a mask; None of any other."""
    found: tuple[int, int] | None = getattr(mask, _MARK, None)
    return found


def is_marked(mask: Tensor) -> bool:
    """Whether `mark` made the mask: a model that changes its masks loses what they say."""
    return hasattr(mask, _MARK)


def plain_window(mask_function: Any, size: int) -> tuple[int, int] | None:
    """Tokens before and behind each token where the function is a sliding window and nothing else.

    Packed sequences and masks of a model's own are functions around it: None.
    """
    if _is_same(mask_function, sliding_window_causal_mask_function(size)):
        return size - 1, 0
    if _is_same(mask_function, sliding_window_bidirectional_mask_function(size)):
        return size, size
    return None


def _is_same(a: Any, b: Any) -> bool:
    """Whether two functions have one code and the same values around it, in functions among these too."""
    if isinstance(a, FunctionType) and isinstance(b, FunctionType):
        cells = [[cell.cell_contents for cell in x.__closure__ or ()] for x in (a, b)]
        return a.__code__ is b.__code__ and _is_same(*cells)
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(_is_same(x, y) for x, y in zip(a, b, strict=True))
    return isinstance(a, int) and isinstance(b, int) and a == b
