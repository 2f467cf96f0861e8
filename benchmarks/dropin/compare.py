"""Sparse attention beside its rivals on the same inputs: dense, a plain band of equal density."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from edgesparse.dropin import attention_mode, counted_density
from edgesparse.dropin.outputs import Batch, run_model

Figures = dict[str, Any]


def outputs_of(
    model: nn.Module, batches: Sequence[Batch], mode: str, *, band_width: int = 0, band_first: bool = False
) -> tuple[list[Tensor], float]:
    """The model's main output for each batch in a mode, and the density over all of them."""
    with attention_mode(model, mode, band_width=band_width, band_first=band_first):  # type: ignore[arg-type]
        found = [run_model(model, batch) for batch in batches]
        return found, counted_density(model)


def equal_band(density: float, tokens: int) -> int:
    """Tokens to each side at which a band over `tokens` has at least this density."""
    width = 0
    # Pairs at most `width` apart: (2w + 1) a token, less what lies beyond the two ends.
    while ((2 * width + 1) * tokens - width * (width + 1)) / tokens**2 < density:
        width += 1
    return width


def mean_cosine(actual: Sequence[Tensor], expected: Sequence[Tensor]) -> list[float]:
    """Mean cosine of the vectors of each batch."""
    pairs = zip(actual, expected, strict=True)
    return [float(torch.cosine_similarity(a.double(), b.double(), dim=-1).mean()) for a, b in pairs]


def word_errors(words: Sequence[str], reference: Sequence[str]) -> int:
    """Insertions, deletions and substitutions that lead from one to the other (Levenshtein)."""
    row = list(range(len(reference) + 1))
    for i, word in enumerate(words, start=1):
        above, row[0] = row[0], i
        for j, wanted in enumerate(reference, start=1):
            above, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, above + (word != wanted))
    return row[-1]


def print_rows(rows: Sequence[Figures], say: Callable[[str], None] = print) -> None:
    """A Markdown table of rows that have the same keys."""
    names = list(rows[0])
    say("| " + " | ".join(names) + " |")
    say("|" + "---|" * len(names))
    for row in rows:
        say("| " + " | ".join(f"{x:.4f}" if isinstance(x, float) else str(x) for x in row.values()) + " |")
