"""The operator of docs/operator.md in plain numpy, float64, one query block after the other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Attributes:
    """The attributes of one `edgesparse::SparseAttention` node."""

    num_heads: int = 1
    kv_num_heads: int = 1
    block_size: int = 16
    scale: float = 0.25
    window: int = 0
    summaries: int = 1
    is_causal: int = 0
    precision: str = "float32"


def select_blocks(
    scores: NDArray[np.float32], valid: NDArray[np.bool_], i: int, window: int, top_p: float, max_blocks: int
) -> NDArray[np.bool_]:
    """The blocks that query block `i` keeps, by rules 1 to 4; `scores` and `valid` are [NK]."""
    blocks = len(scores)
    kept = np.zeros(blocks, dtype=bool)
    score = np.where(valid & ~np.isnan(scores), scores, -np.inf).astype(np.float32)
    score = np.minimum(score, np.finfo(np.float32).max)
    share = np.zeros(blocks, dtype=np.float32)
    if blocks and score.max() > -np.inf:
        share = np.exp(score - score.max(), dtype=np.float32)
        share = (share / share.sum(dtype=np.float32)).astype(np.float32)
    kept[[j for j in range(blocks) if valid[j] and abs(i - j) <= window]] = True
    mass = float(share[kept].sum())
    others = sorted((j for j in range(blocks) if valid[j] and not kept[j]), key=lambda j: (-share[j], j))
    for j in others:
        enough = not top_p > 0 or (top_p < 1 and mass >= top_p)
        if enough or kept.sum() >= max_blocks:
            break
        kept[j] = True
        mass += float(share[j])
    return kept


def attend_row(
    query: NDArray[np.float64],
    keys: NDArray[np.float64],
    values: NDArray[np.float64],
    bias: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Softmax attention of one query over [L, D] keys whose logits carry a bias [L]."""
    if len(keys) == 0:
        return np.zeros(values.shape[1])
    logit = keys @ query + bias
    weight = np.exp(logit - logit.max())
    return np.asarray(weight @ values / weight.sum())


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
    a = attributes
    batch, tokens, _ = query.shape
    heads, groups, size = a.num_heads, a.kv_num_heads, a.block_size
    q = query.astype(np.float64).reshape(batch, query.shape[1], heads, query.shape[2] // heads)
    k = key.astype(np.float64).reshape(batch, key.shape[1], groups, key.shape[2] // groups)
    v = value.astype(np.float64).reshape(batch, value.shape[1], groups, value.shape[2] // groups)
    key_blocks = -(-key.shape[1] // size)
    output = np.zeros((batch, tokens, heads, v.shape[-1]))
    selection = np.zeros(block_scores.shape, dtype=bool)
    block_of = np.arange(key.shape[1]) // size
    for b in range(batch):
        count = np.bincount(block_of[key_mask[b]], minlength=key_blocks)
        for h in range(heads):
            kh, vh = k[b, :, h // (heads // groups)], v[b, :, h // (heads // groups)]
            for i in range(block_scores.shape[2]):
                valid = count > 0
                if a.is_causal:
                    valid = valid & (np.arange(key_blocks) <= i)
                p = float(top_p[h if len(top_p) > 1 else 0])
                kept = select_blocks(block_scores[b, h, i], valid, i, a.window, p, int(max_blocks[0]))
                selection[b, h, i] = kept
                dropped = [j for j in range(key_blocks) if valid[j] and not kept[j] and a.summaries]
                members = [key_mask[b] & (block_of == j) for j in dropped]
                mean_keys = np.array([kh[m].mean(0) for m in members]).reshape(-1, kh.shape[1])
                mean_values = np.array([vh[m].mean(0) for m in members]).reshape(-1, vh.shape[1])
                bias = np.log(count[dropped].astype(np.float64))
                tokens_kept = key_mask[b] & kept[block_of] if key_blocks else np.zeros(0, bool)
                for t in range(i * size, min((i + 1) * size, tokens)):
                    seen = tokens_kept & (np.arange(len(tokens_kept)) <= t) if a.is_causal else tokens_kept
                    output[b, t, h] = attend_row(
                        q[b, t, h] * a.scale,
                        np.concatenate([kh[seen], mean_keys]),
                        np.concatenate([vh[seen], mean_values]),
                        np.concatenate([np.zeros(int(seen.sum())), bias]),
                    )
    return output.reshape(batch, tokens, heads * v.shape[-1]), selection
