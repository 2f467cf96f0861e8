"""One case of the attention benchmark: its inputs, the exact answer, and what a contender is.

`N` tokens, `H` heads, `D` head size; blocks of 64 tokens, one batch, random inputs and block scores.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from tests.support.kernels.models import Feeds, Shape, make_feeds
from tests.support.tolerances import INT8_RMS

BLOCK = 64
# Root mean square of the error over that of the output. A contender beyond it gets no speed-up.
FLOAT32_ERROR = 1e-5
INT8_ERROR = INT8_RMS
# How many query rows of a head are checked against float64.
CHECKED_ROWS = 32


@dataclass(frozen=True)
class Case:
    """Tokens, heads, head size, share of key blocks that a query block keeps, threads."""

    tokens: int
    heads: int
    head_size: int
    density: float
    threads: int = 1

    @property
    def kept(self) -> int:
        """Key blocks a query block, at least one."""
        return max(1, round(self.density * self.tokens / BLOCK))

    @property
    def blocks(self) -> int:
        """Blocks of the input."""
        return self.tokens // BLOCK

    @property
    def name(self) -> str:
        """As in `N4096_H8_D64_12.5%_T1`."""
        return f"N{self.tokens}_H{self.heads}_D{self.head_size}_{self.density * 100:g}%_T{self.threads}"

    @property
    def dense_flops(self) -> float:
        """Both products of dense attention; a multiplication and an addition are two."""
        return 4.0 * self.tokens**2 * self.head_size * self.heads

    @property
    def sparse_flops(self) -> float:
        """Both products over the kept blocks and one summary token for each dropped one."""
        keys = self.kept * BLOCK + self.blocks - self.kept
        return self.dense_flops * keys / self.tokens

    @cached_property
    def feeds(self) -> Feeds:
        """The operator's inputs; every block has a share, so exactly `kept` blocks are kept."""
        shape = Shape(self.tokens, self.tokens, self.heads, self.heads, self.head_size, self.head_size)
        return make_feeds(shape, BLOCK, top_p=1.0, max_blocks=self.kept)


@dataclass(frozen=True)
class Contender:
    """Something that computes attention.

    Attributes:
        name: as the table names it.
        call: one run.
        flops: what one run has to compute.
        error: relative error of its output against float64, root mean square.
        limit: largest error that still counts as the same answer.
    """

    name: str
    call: Callable[[], object]
    flops: float
    error: float
    limit: float = FLOAT32_ERROR

    @property
    def agrees(self) -> bool:
        """Whether its output is right; not so for NaN."""
        return self.error <= self.limit


def exact_rows(
    case: Case, head: int, rows: list[int], kept: NDArray[np.bool_], *, summaries: bool, causal: bool
) -> NDArray[np.float64]:
    """float64 outputs [len(rows), D] of one head.

    Args:
        case: whose inputs are read.
        head: which head.
        rows: which query tokens.
        kept: [NQ, NK] of that head.
        summaries: dropped blocks take part as one token each.
        causal: keys after a query are not seen.
    """
    columns = slice(head * case.head_size, (head + 1) * case.head_size)
    q, k, v = (case.feeds[name][0, :, columns].astype(np.float64) for name in ("query", "key", "value"))
    mean_k, mean_v = (x.reshape(case.blocks, BLOCK, case.head_size).mean(1) for x in (k, v))
    found = []
    for row in rows:
        blocks = kept[row // BLOCK]
        seen = np.repeat(blocks, BLOCK)
        if causal:
            seen = seen & (np.arange(case.tokens) <= row)
        dropped = ~blocks if summaries else np.zeros_like(blocks)
        logit = np.concatenate([k[seen] @ q[row], mean_k[dropped] @ q[row]]) * case.head_size**-0.5
        logit[int(seen.sum()) :] += np.log(BLOCK)
        weight = np.exp(logit - logit.max())
        found.append(weight @ np.concatenate([v[seen], mean_v[dropped]]) / weight.sum())
    return np.array(found)


def relative_error(
    case: Case,
    output: NDArray[np.float32],
    selection: NDArray[np.bool_],
    *,
    summaries: bool = False,
    causal: bool = False,
) -> float:
    """Root mean square of the error over that of the exact answer, on rows of the first and last head.

    Args:
        case: whose inputs are read.
        output: [N, H*D].
        selection: [H, NQ, NK], the blocks that the contender was told to keep.
        summaries: as `exact_rows`.
        causal: as `exact_rows`.
    """
    rows = list(range(0, case.tokens, max(1, case.tokens // CHECKED_ROWS)))
    wrong = right = 0.0
    for head in {0, case.heads - 1}:
        exact = exact_rows(case, head, rows, selection[head], summaries=summaries, causal=causal)
        found = output[rows, head * case.head_size : (head + 1) * case.head_size]
        wrong += float(np.sum((found - exact) ** 2))
        right += float(np.sum(exact**2))
    return float(np.sqrt(wrong / right))
