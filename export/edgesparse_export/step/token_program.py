"""One token of a causal model, from the tokens before it: the program of `step` (step_files.py).

Shapes: `C` channels, `p` samples of the token so far, `W` width, `H`/`G` query and key/value heads, `D`/`E`
head sizes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgesparse.model.filter_bank import LENGTH
from edgesparse.model.normalize import is_missing
from edgesparse.model.transformer import Layer, SequenceTransformer


class StepProgram(nn.Module):
    """One token of a causal `SequenceTransformer`, from the tokens before it; logits in place of scores."""

    offsets: Tensor
    taps: Tensor
    slope: Tensor
    lift: Tensor
    embed_weight: Tensor
    embed_bias: Tensor

    def __init__(self, model: SequenceTransformer) -> None:
        super().__init__()
        self.model = model
        bank = model.bank
        look_back = history_steps(model)
        dilations = torch.tensor(bank.dilations)
        # Place of each kernel's taps in [history; samples] for the first sample.
        places = look_back - dilations[:, None] * (LENGTH - 1 - torch.arange(LENGTH))
        self.register_buffer("offsets", places[:, None])
        # [dilations, kernels, C, 9] -> [dilations, C*9, kernels]
        self.register_buffer("taps", bank.weight.flatten(2).mT.contiguous())
        self.register_buffer("slope", bank.slope[:, None])
        self.register_buffer("lift", 0.5 - bank.threshold * bank.slope[..., None])
        # Standardized features times the embedding, as one linear map of the features.
        weight = model.embed.weight / bank.spread
        self.register_buffer("embed_weight", weight.T.contiguous())
        self.register_buffer("embed_bias", model.embed.bias - weight @ bank.center)

    def forward(
        self,
        samples: Tensor,
        history: Tensor,
        token_sum: Tensor,
        token_count: Tensor,
        value_tail: Tensor,
        block_key: Tensor,
        block_value: Tensor,
        past_key: Tensor,
        past_value: Tensor,
        past_bias: Tensor,
    ) -> tuple[Tensor, ...]:
        normal = self._normalize(samples)
        x_1W = self._embed(torch.cat([history, normal], dim=1), samples.shape[1])
        queries, keys, values = [], [], []
        for i, layer in enumerate(self.model.layers):
            assert isinstance(layer, Layer)
            past = (past_key[i], past_value[i], past_bias[i])
            mixed, query, key, value = self._attend(
                layer, layer.norm_attention(x_1W), value_tail[i], block_key[i], block_value[i], past
            )
            x_1W = x_1W + mixed
            x_1W = x_1W + layer.feed_forward(layer.norm_feed_forward(x_1W))
            queries.append(query)
            keys.append(key)
            values.append(value)
        token = self.model.norm(x_1W)
        mean = (token_sum + token) / (token_count + 1.0)
        return (
            self.model.head(mean)[0],
            normal,
            token[0],
            torch.stack(queries)[:, :, 0],
            torch.stack(keys)[:, :, 0],
            torch.stack(values)[:, :, 0],
        )

    def _normalize(self, samples_Cp: Tensor) -> Tensor:
        fixed = self.model.normalize
        center, spread = fixed.center, fixed.spread
        assert isinstance(center, Tensor) and isinstance(spread, Tensor)
        normal = (samples_Cp - center[:, None]) / spread[:, None]
        return normal.masked_fill(is_missing(samples_Cp), 0.0)

    def _embed(self, steps_CX: Tensor, count: int) -> Tensor:
        """The token [1, W] of the last `count` of these normalized steps."""
        places = self.offsets + torch.arange(count)[:, None]
        dilations, _, taps = places.shape
        # [C, dilations, p, 9] -> [dilations, p, C*9]
        seen = steps_CX[:, places.flatten()].view(-1, dilations, count, taps).permute(1, 2, 0, 3).flatten(2)
        response = seen @ self.taps
        above = ((response * self.slope)[..., None] + self.lift[:, None]).clamp(0.0, 1.0)
        features = above.mean(1).flatten()
        return (features @ self.embed_weight + self.embed_bias)[None]

    @staticmethod
    def _attend(
        layer: Layer,
        x_1W: Tensor,
        value_tail: Tensor,
        block_key: Tensor,
        block_value: Tensor,
        past: tuple[Tensor, Tensor, Tensor],
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        attention = layer.attention
        cfg = attention.config
        heads, groups, size = cfg.num_heads, cfg.groups, cfg.head_size
        query, key, value = attention.project_in(x_1W).split(
            [cfg.width, groups * size, groups * size], dim=-1
        )
        query_HD, key_GD, value_GE = (
            query.view(heads, 1, size),
            key.view(groups, 1, size),
            value.view(groups, 1, size),
        )
        own_key = to_query_heads(torch.cat([block_key, key_GD], dim=1), heads)
        own_value = to_query_heads(torch.cat([block_value, value_GE], dim=1), heads)
        scaled = query_HD * attention.scale
        past_key, past_value, past_bias = past
        past_logits = scaled @ past_key.mT + past_bias
        weights = torch.cat([past_logits, scaled @ own_key.mT], dim=-1).softmax(-1)
        split = [past_key.shape[1], own_key.shape[1]]
        past_weights, own_weights = torch.split(weights, split, dim=-1)
        mixed = (past_weights @ past_value + own_weights @ own_value).view(1, heads * size)
        if attention.value_conv is not None:
            # [G*E, 1, kernel] -> [kernel, G*E]
            kernel = attention.value_conv.weight[:, 0].T
            local = (torch.cat([value_tail, value], dim=0) * kernel).sum(0)
            mixed = mixed + to_query_heads(local.view(groups, 1, size), heads).view(1, heads * size)
        return attention.project_out(mixed), query_HD, key_GD, value_GE


def history_steps(model: SequenceTransformer) -> int:
    """Steps before a token that its stem looks at."""
    return (LENGTH - 1) * max(model.bank.dilations)


def to_query_heads(x: Tensor, heads: int, dim: int = 0) -> Tensor:
    """Key/value heads repeated so that each query head has its own."""
    groups = x.shape[dim]
    return x if groups == heads else x.repeat_interleave(heads // groups, dim=dim)
