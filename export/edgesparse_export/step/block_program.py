"""What the tokens of the next block look at, once a block is full: the program of `block` (step_files.py).

Shapes: `L` layers, `H`/`G` query and key/value heads, `D` head size, `b` block size, `n` full blocks, `S`
blocks that a head visits.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgesparse.attention.layer import SparseAttention
from edgesparse.attention.router import Router
from edgesparse.model.normalize import is_missing
from edgesparse.model.transformer import Layer, SequenceTransformer
from edgesparse_export.step.token_program import to_query_heads


class BlockProgram(nn.Module):
    """What the next block looks at: docs/reference/operator.md's rule for one row of query blocks."""

    def __init__(self, model: SequenceTransformer) -> None:
        super().__init__()
        self.layers = nn.ModuleList(attention_layers(model))
        self.config = attention_layers(model)[0].config
        self.is_sparse = self.config.mode == "sparse"

    def router_weights(self) -> tuple[Tensor, Tensor]:
        """Query and key weights of a sparse model's routers, [L, H, D, R] and [L, G, 3*D, R]."""
        routers = [layer.router for layer in self.layers if isinstance(layer.router, Router)]
        return tuple(  # type: ignore[return-value]
            torch.stack([getattr(router, name).detach() for router in routers])
            for name in ("query_weight", "key_weight")
        )

    def forward(
        self,
        query: Tensor,
        keys: Tensor,
        values: Tensor,
        mean_keys: Tensor,
        mean_values: Tensor,
        route_keys: Tensor,
        top_p: Tensor,
        max_blocks: Tensor,
        query_weight: Tensor | None = None,
        key_weight: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        cfg = self.config
        key, value = keys[-1], values[-1]
        mean_key, mean_value = key.mean(2), value.mean(2)
        if not self.is_sparse:
            everything = [
                to_query_heads(x.permute(1, 2, 0, 3, 4).flatten(2, 3), cfg.num_heads, dim=1)
                for x in (keys, values)
            ]
            bias = torch.zeros_like(everything[0][..., :1]).mT
            return (*everything, bias, mean_key, mean_value, mean_key)
        assert query_weight is not None and key_weight is not None
        route_key = self._route_key(key, mean_key, key_weight)
        routed = query.mean(2)[:, :, None] @ query_weight
        order, kept = self._select(routed, torch.cat([route_keys, route_key[None]]), top_p, max_blocks)
        # Kept blocks are a prefix: as much of it is gathered as the head needs that keeps most.
        slots = kept.sum(-1).flatten().amax(0).clamp(min=1).item()
        assert isinstance(slots, int | torch.SymInt)
        torch._check(slots >= 1)  # type: ignore[no-untyped-call]
        torch._check(slots <= keys.shape[0])  # type: ignore[no-untyped-call]
        order, kept = order[:, :, :slots], kept[:, :, :slots]
        bias = torch.where(kept, 0.0, -torch.inf).repeat_interleave(cfg.block_size, dim=-1)
        seen = [self._gather(x, order) for x in (keys, values)]
        if cfg.summaries:
            means = [torch.cat([x, y[None]]) for x, y in ((mean_keys, mean_key), (mean_values, mean_value))]
            heads = [to_query_heads(x.permute(1, 2, 0, 3), cfg.num_heads, dim=1) for x in means]
            seen = [torch.cat(pair, dim=2) for pair in zip(seen, heads, strict=True)]
            is_kept = torch.zeros(order.shape[0], order.shape[1], keys.shape[0], dtype=torch.float32).scatter(
                -1, order, kept.float()
            )
            log_count = torch.tensor(float(cfg.block_size)).log()
            bias = torch.cat([bias, torch.where(is_kept > 0, -torch.inf, log_count)], dim=-1)
        return (*seen, bias[:, :, None], mean_key, mean_value, route_key)

    @staticmethod
    def _route_key(key_LGbD: Tensor, mean_LGD: Tensor, weight_LGER: Tensor) -> Tensor:
        pooled = torch.cat([mean_LGD, key_LGbD.amax(2), key_LGbD.amin(2)], dim=-1)
        return (pooled[:, :, None] @ weight_LGER)[:, :, 0]

    def _select(
        self, routed_LH1R: Tensor, route_keys_nLGR: Tensor, top_p: Tensor, max_blocks: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Blocks in visiting order [L, H, S] and which of them are kept; the diagonal block is left out.

        It has no share, but its place: among the window's, before all others.
        """
        keys = to_query_heads(route_keys_nLGR.permute(1, 2, 0, 3), self.config.num_heads, dim=1)
        scores = (routed_LH1R @ keys.mT)[:, :, 0]
        scores = torch.where(is_missing(scores), -torch.inf, scores).clamp(max=torch.finfo(torch.float32).max)
        count = scores.shape[-1]
        share = scores.softmax(-1)
        # All scores minus infinity: no share anywhere.
        share = torch.where(is_missing(share), 0.0, share)
        in_window = torch.arange(count) >= count - self.config.window
        priority, order = (share + 2.0 * in_window.float()).topk(count, dim=-1)
        ordered = share.gather(-1, order)
        before = ordered.cumsum(-1) - ordered
        limit = top_p[..., None]
        wanted = ((before < limit) | (limit >= 1.0)) & (limit > 0.0)
        rank = torch.arange(count) + 1
        kept = (priority > 1.5) | (wanted & (rank < max_blocks))
        return order, kept

    def _gather(self, blocks_nLGbD: Tensor, order_LHS: Tensor) -> Tensor:
        """[L, H, S*b, D] of the blocks that each head visits."""
        _, layers, groups, block_size, size = blocks_nLGbD.shape
        heads = order_LHS.shape[1]
        table = blocks_nLGbD.flatten(0, 2).flatten(1)
        layer = torch.arange(layers)[:, None, None]
        group = (torch.arange(heads) // (heads // groups))[:, None]
        rows = (order_LHS * layers + layer) * groups + group
        return table[rows].view(layers, heads, order_LHS.shape[2] * block_size, size)


def attention_layers(model: SequenceTransformer) -> list[SparseAttention]:
    """The attention of each layer."""
    return [layer.attention for layer in model.layers if isinstance(layer, Layer)]
