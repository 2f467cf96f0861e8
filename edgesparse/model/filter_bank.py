"""The stem: a fixed bank of dilated filters and, per token, the share of steps above each threshold.

The features are those that make MiniRocket strong on few labels (Dempster et al. 2021: filters of length 9
with weights -1 and 2, "proportion of positive values"), taken per token rather than per series, so that the
transformer sees where they occur. Nothing here is trained: thresholds are quantiles of the filters' outputs
on the training windows. A threshold is a short ramp, not a step, so that a small change of the input is a
small change of the feature.

Shapes: `B` batch, `C` channels, `T` steps, `K` filters per dilation, `Q` thresholds, `N` tokens,
`F` features.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn
from torch.nn.functional import conv1d, pad

LENGTH = 9
# Of this length with three weights of 2: all that there are.
MOST_FILTERS = 84
# Width of a threshold's ramp, in standard deviations of the filter's output.
RAMP = 0.1
# Values that a quantile is computed from; more make no measurable difference.
SAMPLE = 20_000
# Values of one dilation's filters that are worked on at a time: together with the buffer, half of a core's
# second-level cache.
CACHED = 1 << 17


class FilterBank(nn.Module):
    """Features [B, F, N] of normalized windows, standardized over the training windows."""

    weight: Tensor
    threshold: Tensor
    slope: Tensor
    center: Tensor
    spread: Tensor

    def __init__(
        self,
        channels: int,
        *,
        filters: int,
        dilations: tuple[int, ...],
        thresholds: int,
        patch: int,
        is_causal: bool = False,
    ) -> None:
        super().__init__()
        self.is_causal = is_causal
        self.dilations = dilations
        self.patch = patch
        self.features = len(dilations) * filters * thresholds
        generator = torch.Generator().manual_seed(0)
        self.register_buffer(
            "weight", torch.stack([_filters(filters, channels, generator) for _ in dilations])
        )
        self.register_buffer("threshold", torch.zeros(len(dilations), filters, thresholds))
        self.register_buffer("slope", torch.ones(len(dilations), filters))
        self.register_buffer("center", torch.zeros(self.features))
        self.register_buffer("spread", torch.ones(self.features))

    def forward(self, normal_BCT: Tensor, real_BT: Tensor | None) -> Tensor:
        """[B, F, N]; a token that holds no real step is 0.

        Args:
            real_BT: bool, false = padding; None = every step is real.
        """
        needs_graph = torch.onnx.is_in_onnx_export() or (torch.is_grad_enabled() and normal_BCT.requires_grad)
        if needs_graph:
            return (self._shares(normal_BCT, real_BT) - self.center[:, None]) / self.spread[:, None]
        # In place: two buffers of this size cost more than the arithmetic.
        return self.fast_shares(normal_BCT, real_BT).sub_(self.center[:, None]).div_(self.spread[:, None])

    @torch.no_grad()
    def fit(self, normal_BCT: Tensor, real_BT: Tensor | None) -> None:
        """Choose thresholds from normalized training windows."""
        for i, response in enumerate(self._responses(normal_BCT)):
            values = response.transpose(0, 1)
            values = values.flatten(1) if real_BT is None else values[:, real_BT]
            values = values[:, :: max(1, values.shape[1] // SAMPLE)]
            count = self.threshold.shape[2]
            levels = (torch.arange(count) + 0.5) / count
            self.threshold[i] = values.quantile(levels, dim=1).T
            self.slope[i] = 1.0 / (RAMP * values.std(1)).clamp(min=1e-6)
        means = []
        for start in range(0, len(normal_BCT), 32):
            rows = slice(start, start + 32)
            real = None if real_BT is None else real_BT[rows]
            shares = self.fast_shares(normal_BCT[rows], real)
            means.append(mean_over_tokens(shares, real, self.patch))
        feature = torch.cat(means)
        self.center.copy_(feature.mean(0))
        self.spread.copy_(feature.std(0, correction=0).clamp(min=1e-3))

    def _responses(self, normal_BCT: Tensor) -> list[Tensor]:
        """The filters' outputs, one [B, K, T] per dilation; causal ones end at their step."""
        if self.is_causal:
            return [
                conv1d(pad(normal_BCT, (dilation * (LENGTH - 1), 0)), weight, dilation=dilation)
                for weight, dilation in zip(self.weight, self.dilations, strict=True)
            ]
        return [
            conv1d(normal_BCT, weight, dilation=dilation, padding=dilation * (LENGTH // 2))
            for weight, dilation in zip(self.weight, self.dilations, strict=True)
        ]

    @torch.no_grad()
    def fast_shares(self, normal_BCT: Tensor, real_BT: Tensor | None) -> Tensor:
        """`_shares` threshold by threshold in one buffer, a few series at a time: no graph, no gradient.

        The steps of a token lie apart, so that their sum runs over whole rows: a third of the time.
        """
        batch, _, steps = normal_BCT.shape
        dilations, filters, thresholds = self.threshold.shape
        tokens = (steps + self.patch - 1) // self.patch
        rest = tokens * self.patch - steps
        real = normal_BCT.new_ones(1, steps) if real_BT is None else real_BT.float()
        real = pad(real, (0, rest)).view(-1, 1, tokens, self.patch).mT
        count = real.sum(-2).clamp(min=1)
        shares = normal_BCT.new_empty(batch, dilations, filters, thresholds, tokens)
        series = max(1, CACHED // (filters * tokens * self.patch))
        for start in range(0, batch, series):
            rows = slice(start, start + series)
            is_real = real if len(real) == 1 else real[rows]
            for i, response in enumerate(self._responses(normal_BCT[rows])):
                slope = self.slope[i][:, None]
                scaled = pad(response.mul_(slope), (0, rest)).view(-1, filters, tokens, self.patch).mT
                scaled = scaled.contiguous()
                above = torch.empty_like(scaled)
                for j, bias in enumerate((0.5 - self.threshold[i] * slope).unbind(1)):
                    torch.add(scaled, bias[:, None, None], out=above)
                    above.clamp_(0.0, 1.0)
                    if rest or real_BT is not None:
                        above.mul_(is_real)
                    torch.sum(above, -2, out=shares[rows, i, :, j])
        return shares.div_(count[:, :, None, None]).view(batch, self.features, tokens)

    def _shares(self, normal_BCT: Tensor, real_BT: Tensor | None) -> Tensor:
        """Share of a token's real steps above each threshold, [B, F, N]."""
        batch, _, steps = normal_BCT.shape
        tokens = (steps + self.patch - 1) // self.patch
        rest = tokens * self.patch - steps
        if real_BT is None:
            real = torch.arange(tokens * self.patch, device=normal_BCT.device) < steps
            real = real.view(1, 1, tokens, self.patch)
        else:
            real = pad(real_BT, (0, rest)).view(batch, 1, tokens, self.patch)
        count = real.sum(-1).clamp(min=1)
        parts = []
        for response, threshold, slope in zip(
            self._responses(normal_BCT), self.threshold, self.slope, strict=True
        ):
            # One multiply-add per element: (response - threshold) * slope + 1/2, clipped to [0, 1].
            scaled = (response * slope[:, None])[:, :, None]
            above = (scaled + (0.5 - threshold * slope[:, None])[..., None]).clamp(0.0, 1.0)
            blocks = pad(above.flatten(1, 2), (0, rest)).view(batch, -1, tokens, self.patch)
            if real_BT is not None:
                blocks = blocks * real
            parts.append(blocks.sum(-1) / count)
        return torch.cat(parts, dim=1)


def token_mask(real_BT: Tensor, patch: int) -> Tensor:
    """Tokens that hold a real step, bool [B, N]."""
    batch, steps = real_BT.shape
    tokens = (steps + patch - 1) // patch
    return pad(real_BT, (0, tokens * patch - steps)).view(batch, tokens, patch).any(-1)


def mean_over_tokens(x_BFN: Tensor, real_BT: Tensor | None, patch: int) -> Tensor:
    """Over the tokens that hold a real step, [B, F]."""
    if real_BT is None:
        return x_BFN.mean(-1)
    mask = token_mask(real_BT, patch)[:, None]
    return (x_BFN * mask).sum(-1) / mask.sum(-1).clamp(min=1)


def _filters(count: int, channels: int, generator: torch.Generator) -> Tensor:
    """`count` of the 84 filters with three 2s and six -1s, each over a random half of the channels."""
    every = torch.full((MOST_FILTERS, LENGTH), -1.0)
    for row, places in zip(every, itertools.combinations(range(LENGTH), 3), strict=True):
        row[list(places)] = 2.0
    chosen = every[torch.randperm(MOST_FILTERS, generator=generator)[:count]]
    uses = torch.rand(count, channels, generator=generator) < 0.5
    # Every filter reads at least one channel.
    uses[torch.arange(count), torch.randint(channels, (count,), generator=generator)] = True
    return chosen[:, None] * uses[..., None].float()
