"""Dropout that draws eight places at a time: PyTorch's own is a tenth of a training step on a CPU."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Dropout(nn.Module):
    """Zeroes a share of the values in training and scales the rest up, as `torch.nn.Dropout` does.

    Args:
        share: of values dropped, rounded to a 256th: a random byte decides about a place.
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self.kept = 256 - round(256 * share)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.kept == 256:
            return x
        words = torch.randint(-(2**63), 2**63 - 1, ((x.numel() + 7) // 8,), device=x.device)
        keep = words.view(torch.uint8)[: x.numel()].view(x.shape) < self.kept
        return x * keep.to(x.dtype).mul_(256 / self.kept)

    def extra_repr(self) -> str:
        return f"share={1 - self.kept / 256:.3f}"
