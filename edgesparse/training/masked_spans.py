"""The long-range task: reconstruct masked spans that are longer than the attention window.

A span is hidden before the stem sees it, so that no filter leaks it, and is longer than a token's attention
window: only attention to distant blocks can tell what was there. The target is the stem's own features of the
hidden tokens (how often each filter fires), each in units of its spread over the tokens of the training
windows.

Shapes: `B` batch, `C` channels, `T` steps, `N` tokens, `W` width, `F` features.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgesparse.model.filter_bank import token_mask
from edgesparse.model.normalize import real_steps
from edgesparse.model.transformer import SequenceTransformer

# Where a feature hardly varies its spread would blow up rounding noise.
SMALLEST_SPREAD = 0.1


class Reconstruction(nn.Module):
    """What the task adds to the model in training; it is not exported."""

    center: Tensor
    spread: Tensor

    def __init__(self, width: int, features: int) -> None:
        super().__init__()
        self.hidden_token = nn.Parameter(0.02 * torch.randn(width))
        self.project = nn.Linear(width, features)
        self.register_buffer("center", torch.zeros(features))
        self.register_buffer("spread", torch.ones(features))

    @torch.no_grad()
    def fit(self, model: SequenceTransformer, windows_BCT: Tensor) -> None:
        """Learn each feature's mean and spread over the tokens of training windows."""
        count, total, squares = 0, torch.zeros(()), torch.zeros(())
        for part in torch.split(windows_BCT, 32):
            real = real_steps(part) if model.variable_length else None
            features = model.bank(model.normalize(part)[0], real).mT.double()
            seen = features.flatten(0, 1) if real is None else features[token_mask(real, model.patch)]
            count, total, squares = count + len(seen), total + seen.sum(0), squares + (seen**2).sum(0)
        mean = total / count
        self.center.copy_(mean)
        self.spread.copy_((squares / count - mean**2).clamp(min=0.0).sqrt().clamp(min=SMALLEST_SPREAD))

    def forward(self, model: SequenceTransformer, window_BCT: Tensor, hidden_BN: Tensor) -> Tensor:
        """Mean squared error over the hidden tokens; 1 is what predicting the mean would score.

        Args:
            window_BCT: raw windows.
            hidden_BN: bool, the tokens to hide; padding among them does not count.
        """
        real = real_steps(window_BCT) if model.variable_length else None
        normal, level = model.normalize(window_BCT)
        with torch.no_grad():
            features = model.bank(normal, real).mT
        steps = hidden_BN.repeat_interleave(model.patch, dim=1)[:, : window_BCT.shape[-1]]
        tokens, mask = model.embed_normal(normal.masked_fill(steps[:, None], 0.0), level, real)
        tokens = torch.where(hidden_BN[..., None], self.hidden_token, tokens)
        found = self.project(model.encode(tokens, mask)[0])
        counted = hidden_BN if mask is None else hidden_BN & mask
        error = ((found - (features - self.center) / self.spread) ** 2).mean(-1)
        loss: Tensor = (error * counted).sum() / counted.sum().clamp(min=1)
        return loss


def hide_spans(batch: int, tokens: int, *, longer_than: int, share: float) -> Tensor:
    """Tokens to hide, bool [B, N]: spans of `longer_than` + 1 tokens, about `share` of all, at random.

    At least one span per window. Where a span would be more than half of a window, `share` of its tokens are
    hidden in one piece.
    """
    span = longer_than + 1
    if 2 * span > tokens:
        span = max(1, round(share * tokens))
    count = max(1, round(share * tokens / span))
    starts = (torch.rand(batch, count) * (tokens - span + 1)).long()
    index = torch.arange(tokens)
    hidden: Tensor = ((index >= starts[..., None]) & (index < starts[..., None] + span)).any(1)
    return hidden


def hide_tokens(model: SequenceTransformer, lengths_B: Tensor, steps: int, share: float) -> Tensor:
    """Tokens of windows of `steps` steps to hide, bool [B, N]; padding is not among them."""
    tokens = model.token_count(steps)
    hidden = hide_spans(len(lengths_B), tokens, longer_than=reach_of_window(model), share=share)
    return hidden & (torch.arange(tokens) < -(-lengths_B[:, None] // model.patch))


def reach_of_window(model: SequenceTransformer) -> int:
    """Tokens that a token's attention window can hold; what lies within them is not long-range."""
    sides = 1 if model.config.causal else 2
    return (sides * model.config.window + 1) * model.block_size
