"""A forecaster: windows in, the next steps of one channel out.

The transformer's summary of the window (its mean token and its last one) and a linear look at the latest
steps of the channel itself are added. Both work on normalized values; the window's own level and spread
are put back at the end, so that a channel whose level wanders is forecast around its present level.

Shapes: `B` batch, `C` channels, `T` steps, `N` tokens, `W` width, `H` steps forecast, `R` recent steps.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from edgesparse.config import ModelConfig
from edgesparse.model.normalize import FixedNormalize, Normalize, real_steps
from edgesparse.model.transformer import SequenceTransformer


class Forecaster(SequenceTransformer):
    """Standardized values of the next steps [B, H] of windows [B, C, T].

    Args:
        target: index of the channel to forecast.
        recent: R.
        center: subtracted from, and
        scale: divided out of the forecast values: the targets' standardization.
    """

    def __init__(
        self,
        config: ModelConfig,
        *,
        channels: int,
        horizon: int,
        target: int,
        recent: int,
        center: float,
        scale: float,
        variable_length: bool,
    ) -> None:
        # The forecast channel gets its level and spread back, so it is normalized by them too.
        super().__init__(
            config,
            channels=channels,
            outputs=horizon,
            variable_length=variable_length,
            joint_scale=False,
        )
        self.target, self.recent, self.center, self.scale = target, recent, center, scale
        self.head = nn.Linear(2 * config.width, horizon)
        self.project_recent = nn.Linear(recent, horizon, bias=False)
        nn.init.zeros_(self.project_recent.weight)

    def forward(self, window_BCT: Tensor) -> Tensor:
        """Raw windows [B, C, T], NaN = missing -> standardized values [B, H]."""
        return self.score_tokens(window_BCT)[:, -1] if self.config.causal else self._whole(window_BCT)

    def score_tokens(self, window_BCT: Tensor) -> Tensor:
        """The forecast made at the end of each token, [B, N, H]; causal models only."""
        if not self.config.causal:
            raise ValueError("`score_tokens` needs a causal model; set model.causal=true and train it.")
        normal, tokens, mask, last_step = self._encoded(window_BCT)
        weight = torch.ones_like(tokens[..., :1]) if mask is None else mask[..., None].float()
        running = (tokens * weight).cumsum(1) / weight.cumsum(1).clamp(min=1.0)
        count = tokens.shape[1]
        ends = ((torch.arange(count) + 1) * self.patch - 1).expand(tokens.shape[0], -1)
        ends = torch.minimum(ends, last_step[:, None])
        # Past the end of a padded window the forecast of its last token holds.
        place = torch.minimum(torch.arange(count), last_step[:, None] // self.patch)
        latest = tokens.gather(1, place[..., None].expand_as(tokens))
        return self._combine(window_BCT, normal, running, latest, ends)

    def _whole(self, window_BCT: Tensor) -> Tensor:
        normal, tokens, mask, last_step = self._encoded(window_BCT)
        weight = torch.ones_like(tokens[..., :1]) if mask is None else mask[..., None].float()
        pooled = (tokens * weight).sum(1, keepdim=True) / weight.sum(1, keepdim=True).clamp(min=1.0)
        place = (last_step // self.patch)[:, None, None].expand(-1, 1, tokens.shape[-1])
        latest = tokens.gather(1, place)
        return self._combine(window_BCT, normal, pooled, latest, last_step[:, None])[:, 0]

    def _encoded(self, window_BCT: Tensor) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
        """Normalized window, tokens, their mask, and each window's last real step [B]."""
        real = real_steps(window_BCT) if self.variable_length else None
        normal, level = self.normalize(window_BCT)
        tokens, mask = self.encode(*self.embed_normal(normal, level, real))
        return normal, tokens, mask, self._last_step(normal, real)

    @staticmethod
    def _last_step(normal_BCT: Tensor, real_BT: Tensor | None) -> Tensor:
        seen = torch.ones_like(normal_BCT[:, 0]) if real_BT is None else real_BT.float()
        return (seen.sum(-1).long() - 1).clamp(min=0)

    def _combine(
        self, window_BCT: Tensor, normal_BCT: Tensor, pooled_BMW: Tensor, latest_BMW: Tensor, ends_BM: Tensor
    ) -> Tensor:
        """Forecasts [B, M, H] made at the steps `ends`."""
        recent = self._recent(normal_BCT, ends_BM)
        deep = self.head(self.dropout(torch.cat([pooled_BMW, latest_BMW], dim=-1)))
        forecast = deep + self.project_recent(recent)
        center, spread = self._level(window_BCT)
        raw: Tensor = center[:, None, None] + spread[:, None, None] * forecast
        return (raw - self.center) / self.scale

    def _recent(self, normal_BCT: Tensor, ends_BM: Tensor) -> Tensor:
        """The channel's normalized steps up to the steps `ends`, [B, M, R]; before the first, zeros."""
        padded = pad(normal_BCT[:, self.target], (self.recent - 1, 0))
        index = ends_BM[..., None] + torch.arange(self.recent)
        return padded[:, None].expand(-1, ends_BM.shape[1], -1).gather(-1, index)

    def linear_task(self, window_BCT: Tensor, target_BH: Tensor) -> tuple[Tensor, Tensor]:
        """What the linear part sees [B, R], and the next steps that it should say [B, H], both normalized."""
        real = real_steps(window_BCT) if self.variable_length else None
        normal, _ = self.normalize(window_BCT)
        recent = self._recent(normal, self._last_step(normal, real)[:, None])[:, 0]
        center, spread = self._level(window_BCT)
        raw = target_BH * self.scale + self.center
        return recent, (raw - center[:, None]) / spread[:, None]

    def _level(self, window_BCT: Tensor) -> tuple[Tensor, Tensor]:
        """Level and spread [B] of the channel: the window's own, or the fixed ones of a causal model."""
        if isinstance(self.normalize, FixedNormalize):
            ones = torch.ones_like(window_BCT[:, 0, 0])
            return ones * self.normalize.center[self.target], ones * self.normalize.spread[self.target]
        assert isinstance(self.normalize, Normalize)
        mean, log_spread = self.normalize.level(window_BCT).chunk(2, dim=1)
        return mean[:, self.target], log_spread[:, self.target].exp()
