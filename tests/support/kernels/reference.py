"""The operator's naive twin for tests of engines: arrays in, arrays out, attention in float64."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from edgesparse.attention import reference
from edgesparse.attention.attributes import Attributes as Attributes


def sparse_attention(
    query: NDArray[np.float32],
    key: NDArray[np.float32],
    value: NDArray[np.float32],
    block_scores: NDArray[np.float32],
    top_p: NDArray[np.float32],
    max_blocks: NDArray[np.int64],
    key_mask: NDArray[np.bool_],
    attributes: Attributes,
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """`output` [B, N, H*Dv] in float64 and `selection` [B, H, NQ, NK]."""
    wide = [torch.from_numpy(x.astype(np.float64)) for x in (query, key, value)]
    rest = [torch.from_numpy(x) for x in (block_scores, top_p, max_blocks, key_mask)]
    output, selection = reference.sparse_attention(*wide, *rest, attributes=attributes)
    return output.numpy(), selection.numpy()
