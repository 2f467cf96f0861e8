"""`SequenceTransformer`: raw multichannel windows in, one row of scores out.

normalize -> filter bank -> linear embedding -> layers of attention and feed-forward -> mean over tokens ->
linear head. Everything is part of the module, so the exported file takes raw windows too. With the second
edition of the stem a skip is added, `edgesparse.model.skip`, and with no layers it is all there is.

A causal model's token sees the past only, in every one of these steps (docs/guides/training.md): fixed
normalization, filters that end at their step, causal attention, and the mean over the tokens so far.

Shapes: `B` batch, `C` channels, `T` steps, `N` tokens, `W` width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from edgesparse.attention.layer import AttentionConfig, SparseAttention
from edgesparse.config import ModelConfig
from edgesparse.model.competing_filters import GROUPS
from edgesparse.model.dropout import Dropout
from edgesparse.model.filter_bank import LENGTH, MOST_FILTERS, FilterBank, token_mask
from edgesparse.model.normalize import FixedNormalize, Normalize, TrainingScale, real_steps
from edgesparse.model.skip import SMOOTHED, Skip
from edgesparse.model.stretch import stretch

FILTERS = 28
# A model without layers has so many times as many on windows of at most so many steps; not on more series
# than these, where solving for that many weights would take minutes.
SHORT, TIMES, FEW_SERIES = 512, 4, 1024


class Layer(nn.Module):
    """Pre-norm attention and feed-forward, each with a residual."""

    def __init__(self, config: ModelConfig, block_size: int) -> None:
        super().__init__()
        width = config.width
        self.norm_attention = nn.LayerNorm(width)
        self.attention = SparseAttention(
            AttentionConfig(
                width=width,
                num_heads=config.num_heads,
                block_size=block_size,
                window=config.window,
                summaries=config.summaries,
                is_causal=config.causal,
                mode=config.attention,
                value_filter=config.value_filter,
            )
        )
        self.norm_feed_forward = nn.LayerNorm(width)
        self.feed_forward = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), Dropout(config.dropout), nn.Linear(2 * width, width)
        )
        self.dropout = Dropout(config.dropout)

    def forward(self, x_BNW: Tensor, mask_BN: Tensor | None) -> Tensor:
        attended, _ = self.attention(self.norm_attention(x_BNW), mask_BN)
        x_BNW = x_BNW + self.dropout(attended)
        mixed: Tensor = x_BNW + self.dropout(self.feed_forward(self.norm_feed_forward(x_BNW)))
        return mixed


class SequenceTransformer(nn.Module):
    """Classification logits or regression targets of multichannel windows.

    Args:
        config: its shape, with `patch` and `block_size` chosen (`choose_sizes`).
        channels: C.
        outputs: classes, or targets.
        variable_length: windows may end in padding (NaN in every channel). Without it no mask is computed,
            which lets dense attention use onnxruntime's fused kernel; a window with a tail of NaN is then
            one with missing values.
        joint_scale: channels keep their relative sizes (`edgesparse.model.normalize`).
    """

    def __init__(
        self,
        config: ModelConfig,
        *,
        channels: int,
        outputs: int,
        variable_length: bool = False,
        joint_scale: bool = True,
    ) -> None:
        super().__init__()
        self.config = config
        self.channels = channels
        self.outputs = outputs
        if config.patch is None or config.block_size is None:
            raise ValueError("`config.patch` and `config.block_size` must be chosen. Use choose_sizes().")
        self.patch = config.patch
        self.block_size = config.block_size
        self.variable_length = variable_length
        self.normalize: FixedNormalize | TrainingScale | Normalize
        if config.causal:
            self.normalize = FixedNormalize(channels)
        elif config.fixed_scale:
            self.normalize = TrainingScale(channels)
        else:
            self.normalize = Normalize(channels, is_joint=joint_scale)
        self.bank = FilterBank(
            channels,
            filters=config.filters or FILTERS,
            dilations=config.dilations,
            thresholds=config.thresholds,
            patch=self.patch,
            is_causal=config.causal,
        )
        self.skip: Skip | None = None
        if config.has_skip:
            self.skip = Skip(
                self.bank,
                channels=channels,
                outputs=outputs,
                joint_scale=joint_scale,
                groups=config.competing_groups or GROUPS,
                smoothed=config.smoothed or SMOOTHED,
            )
        if config.layers == 0:
            self.layers = nn.ModuleList()
            return
        self.embed = nn.Linear(self.bank.features, config.width)
        nn.init.normal_(self.embed.weight, std=1.0 / math.sqrt(self.bank.features))
        self.embed_level: nn.Linear | None = None
        if not config.causal:
            self.embed_level = nn.Linear(2 * channels, config.width, bias=False)
            nn.init.normal_(self.embed_level.weight, std=0.1)
        self.layers = nn.ModuleList([Layer(config, self.block_size) for _ in range(config.layers)])
        self.norm = nn.LayerNorm(config.width)
        self.dropout = Dropout(2 * config.dropout)
        self.head = nn.Linear(config.width, outputs)
        if self.skip is not None:
            # The transformer adds nothing until it has learned something.
            nn.init.zeros_(self.head.weight)
            nn.init.zeros_(self.head.bias)

    def forward(self, window_BCT: Tensor) -> Tensor:
        """Raw windows [B, C, T], NaN = missing -> logits or standardized targets [B, outputs]."""
        if self.skip is None:
            return self._pooled_scores(*self.embed_window(window_BCT))
        normal, level, real = self._normalized(window_BCT)
        shares = self.bank(normal, real)
        scores: Tensor = self.skip(normal, real, shares, level)
        return scores + self._pooled_scores(*self._embed(shares, level, real)) if len(self.layers) else scores

    def skip_alone(self, window_BCT: Tensor) -> Tensor:
        """What the skip outputs, [B, outputs]."""
        if self.skip is None:
            raise ValueError("`skip_alone` needs a model with the skip; set model.stem=2.")
        return self.skip.from_raw(self.skip_features(window_BCT))

    def without_skip(self, window_BCT: Tensor) -> Tensor:
        """What the transformer adds to the skip, [B, outputs]."""
        return self._pooled_scores(*self.embed_window(window_BCT))

    def skip_features(self, window_BCT: Tensor) -> Tensor:
        """The skip's features [B, F] in their own units."""
        if self.skip is None:
            raise ValueError("`skip_features` needs a model with the skip; set model.stem=2.")
        normal, level, real = self._normalized(window_BCT)
        return self.skip.raw(normal, real, self.bank(normal, real), level)

    def _pooled_scores(self, tokens_BNW: Tensor, mask_BN: Tensor | None) -> Tensor:
        """The head on the mean over the real tokens of what the layers make of them."""
        tokens, mask = self.encode(tokens_BNW, mask_BN)
        if mask is None:
            pooled = tokens.mean(1)
        else:
            weight = mask[..., None].float()
            pooled = (tokens * weight).sum(1) / weight.sum(1).clamp(min=1.0)
        scores: Tensor = self.head(self.dropout(pooled))
        return scores

    def score_tokens(self, window_BCT: Tensor) -> Tensor:
        """What `forward` returns for the window up to each token, [B, N, outputs]; causal models only.

        Past the end of a padded window the last score holds.
        """
        if not self.config.causal:
            raise ValueError("`score_tokens` needs a causal model; set model.causal=true and train it.")
        tokens, mask = self.encode(*self.embed_window(window_BCT))
        weight = torch.ones_like(tokens[..., :1]) if mask is None else mask[..., None].float()
        running = (tokens * weight).cumsum(1) / weight.cumsum(1).clamp(min=1.0)
        scores: Tensor = self.head(self.dropout(running))
        return scores

    def embed_window(self, window_BCT: Tensor) -> tuple[Tensor, Tensor | None]:
        """Tokens [B, N, W], and which of them are real (None = all)."""
        return self.embed_normal(*self._normalized(window_BCT))

    def _normalized(self, window_BCT: Tensor) -> tuple[Tensor, Any, Tensor | None]:
        """Normalized window [B, C, T or S], its level features (None in a causal model), and real steps."""
        window, real = self._equalized(window_BCT)
        normal, level = self.normalize(window)
        return normal, level, real

    def _equalized(self, window_BCT: Tensor) -> tuple[Tensor, Tensor | None]:
        """Windows stretched to one length where the model does that, and which steps are real."""
        real = real_steps(window_BCT) if self.variable_length else None
        if real is None or not self.config.stretched:
            return window_BCT, real
        return stretch(window_BCT, real, self.config.stretched), None

    def embed_normal(
        self, normal_BCT: Tensor, level: Tensor | None, real_BT: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """`embed_window` from its second step on: normalized window, level features and real steps."""
        return self._embed(self.bank(normal_BCT, real_BT), level, real_BT)

    def _embed(
        self, shares_BFN: Tensor, level: Tensor | None, real_BT: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        tokens = self.embed(shares_BFN.mT)
        if self.embed_level is not None:
            tokens = tokens + self.embed_level(level)[:, None]
        return tokens, None if real_BT is None else token_mask(real_BT, self.patch)

    def encode(self, tokens_BNW: Tensor, mask_BN: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Tokens after all layers and the last norm, and the mask as it came."""
        for layer in self.layers:
            tokens_BNW = layer(tokens_BNW, mask_BN)
        return self.norm(tokens_BNW), mask_BN

    def fit_stem(self, windows_BCT: Tensor) -> None:
        """Learn normalization and thresholds from raw training windows; nothing else is learned here."""
        windows, real = self._equalized(windows_BCT)
        self.normalize.fit(windows)
        normal = self.normalize(windows)[0]
        self.bank.fit(normal, real)
        if self.skip is not None:
            self.skip.fit_stem(normal, real)

    def token_count(self, steps: int) -> int:
        """Tokens of a window of so many steps."""
        return math.ceil(steps / self.patch)


def choose_sizes(config: ModelConfig, lengths: Sequence[int]) -> ModelConfig:
    """`config` with `patch` and `block_size` chosen for windows of these lengths.

    Dilations that stretch a filter over more than half of the longest are left out: their taps would lie on
    padding at most places. A model without layers has nothing but its filters' features: it gets more filters
    where windows are short, so that there is time for them.
    """
    if config.stretched:
        lengths = [config.stretched] * len(lengths)
    steps = typical_steps(lengths)
    patch = config.patch or choose_patch(steps)
    block_size = config.block_size or choose_block_size(math.ceil(steps / patch))
    fitting = tuple(d for d in config.dilations if 2 * d * (LENGTH - 1) <= max(lengths))
    dilations = fitting or (min(config.dilations),)
    sized = replace(config, patch=patch, block_size=block_size, dilations=dilations)
    if config.layers == 0:
        # Nothing attends.
        sized = replace(sized, stem=2, attention="dense")
    # There is time for more filters where windows are short and few.
    is_short = config.layers == 0 and steps <= SHORT and len(lengths) <= FEW_SERIES
    times = TIMES if is_short else 1
    filters = config.filters or min(MOST_FILTERS, times * FILTERS)
    return replace(sized, filters=filters, competing_groups=config.competing_groups or times * GROUPS)


def typical_steps(lengths: Sequence[int]) -> int:
    """Between the root mean square of the lengths and the longest (their geometric mean).

    Tokens sized for the longest alone would leave a set of mostly short windows too few blocks to meet a
    budget; sized for the others, they make the longest windows as expensive as all the rest.
    """
    mean_square = sum(n * n for n in lengths) / len(lengths)
    return round(math.sqrt(math.sqrt(mean_square) * max(lengths)))


def choose_patch(steps: int) -> int:
    """Steps per token, 1 to 8, so that short windows still have about 180 tokens to choose among."""
    return max(1, min(8, steps // 180))


def choose_block_size(tokens: int) -> int:
    """The largest block size, 4 to 64 tokens, that still gives windows of so many tokens a dozen blocks.

    Smaller blocks select more finely, larger ones run faster (benchmarks/attention/training_step.py). With
    fewer than a dozen, the diagonal block and the summaries would cost more than a third of dense attention.
    """
    for block_size in (64, 32, 16, 8):
        if tokens > 11 * block_size:
            return block_size
    return 4


def count_parameters(model: nn.Module) -> int:
    """Trained weights, those of a skip included."""
    trained = sum(p.numel() for p in model.parameters())
    fitted = [m for m in model.modules() if isinstance(m, Skip)]
    return trained + sum(m.weight.numel() + m.bias.numel() for m in fitted)
