"""The stem's second edition: its features against their definition, and where it is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from edgesparse.config import ModelConfig
from edgesparse.model.competing_filters import GROUP, CompetingFilters
from edgesparse.model.skip import smoothed_differences
from edgesparse.model.transformer import SequenceTransformer, choose_sizes
from edgesparse_runtime.errors import InputError

SMALL = ModelConfig(layers=0, filters=4, dilations=(1, 4), thresholds=2, patch=8)


def small_model(channels: int = 2, *, variable_length: bool = False) -> SequenceTransformer:
    config = choose_sizes(SMALL, [200])
    return SequenceTransformer(config, channels=channels, outputs=3, variable_length=variable_length).eval()


def plain_features(filters: CompetingFilters, window: torch.Tensor) -> list[float]:
    """The definition, step by step, of one window [C, T]."""
    found = []
    channels, steps = window.shape
    for weight, dilation, sharpness in zip(filters.weight, filters.dilations, filters.sharpness, strict=True):
        sums = np.zeros((3, filters.groups * GROUP))
        for t in range(steps):
            taps = [t + dilation * (k - 4) for k in range(9)]
            x = np.array(
                [[float(window[c, i]) if 0 <= i < steps else 0.0 for i in taps] for c in range(channels)]
            )
            response = (weight.double().numpy() * x).sum((1, 2))
            for g in range(filters.groups):
                rows = slice(g * GROUP, (g + 1) * GROUP)
                scaled = response[rows] * float(sharpness[g])
                wins = np.maximum(0, scaled - scaled.max() + 1)
                sums[:, rows] += wins * scaled.max(), wins, np.maximum(0, scaled.min() - scaled + 1)
        found += (sums / steps).ravel().tolist()
    return found


@pytest.mark.parametrize("channels", [1, 3])
def test_competing_filters_are_what_their_definition_says(channels: int) -> None:
    torch.manual_seed(0)
    windows = torch.randn(2, channels, 31)
    filters = CompetingFilters(channels, dilations=(1, 3), groups=2, seed=1)
    filters.fit(windows, None)
    expected = torch.tensor([plain_features(filters, window) for window in windows]).float()
    torch.testing.assert_close(filters(windows, None), expected, rtol=1e-4, atol=1e-5)
    # Someone wins at every step, and with a short ramp hardly anyone else does.
    shares = filters(windows, None).view(2, 2, 3, 2, GROUP)[:, :, 1].sum(-1)
    assert (shares > 1 - 1e-5).all() and (shares < 1.3).all()


def test_padding_changes_no_feature() -> None:
    torch.manual_seed(0)
    model = small_model(variable_length=True)
    windows = torch.randn(3, 2, 200)
    model.fit_stem(windows)
    padded = torch.cat([windows, torch.full((3, 2, 40), torch.nan)], dim=2)
    torch.testing.assert_close(
        model.skip_features(padded), model.skip_features(windows), rtol=1e-4, atol=1e-5
    )


def test_smoothed_differences_are_a_slope() -> None:
    line = torch.arange(20.0).view(1, 1, 20)
    found = smoothed_differences(3.0 * line, None)
    torch.testing.assert_close(found[0, 0, 3:18], torch.full((15,), 3.0))
    real = torch.arange(20)[None] < 12
    cut = smoothed_differences(3.0 * line * real, real)
    assert cut[0, 0, 12:].isnan().all() and (cut[0, 0, :12] >= 0).all()


def test_level_and_scale_of_the_window_do_not_reach_the_competing_filters() -> None:
    torch.manual_seed(0)
    model = small_model(1)
    windows = torch.randn(4, 1, 200)
    model.fit_stem(windows)
    levels = 4
    features, moved = (model.skip_features(x)[:, :-levels] for x in (windows, 5.0 * windows + 3.0))
    torch.testing.assert_close(features, moved, rtol=1e-3, atol=1e-4)


def test_a_transformer_starts_at_the_skip_and_old_models_have_none() -> None:
    torch.manual_seed(0)
    windows = torch.randn(2, 2, 200)
    config = ModelConfig(stem=2, width=16, num_heads=2, filters=4, dilations=(1,), thresholds=2)
    model = SequenceTransformer(choose_sizes(config, [200]), channels=2, outputs=3).eval()
    model.fit_stem(windows)
    assert model.skip is not None
    model.skip.weight.normal_()
    model.skip.sharpness.fill_(1.0)
    torch.testing.assert_close(model(windows), model.skip_alone(windows))
    assert model.without_skip(windows).abs().max() == 0
    # A run folder written before there were editions names none.
    assert not choose_sizes(ModelConfig(), [200]).has_skip


def test_what_does_not_go_with_the_skip_is_refused() -> None:
    with pytest.raises(InputError, match="`causal` must be false"):
        ModelConfig(stem=2, causal=True)
    with pytest.raises(InputError, match="`layers` must be at least 1 with `stem` 1"):
        ModelConfig(stem=1, layers=0)
    with pytest.raises(InputError, match="`stem` must be at most 2"):
        ModelConfig(stem=3)
