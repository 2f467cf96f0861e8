"""Normalization, kernel bank, schedule, split and augmentation, one promise each."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Literal

import numpy as np
import pytest
import torch
from torch import Tensor

from edgesparse.config import ModelConfig, TrainingConfig
from edgesparse.model.dropout import Dropout
from edgesparse.model.filter_bank import FilterBank
from edgesparse.model.normalize import LARGEST_RATIO, Normalize, real_steps
from edgesparse.model.transformer import choose_sizes, typical_steps
from edgesparse.training.augment import AUGMENTATIONS, augment, between, gap, shift_in_time
from edgesparse.training.data import data_warnings
from edgesparse.training.schedule import attention_share, augmented_share, learning_rate
from edgesparse.training.split import hold_out
from edgesparse_runtime.data.series_set import SeriesSet
from tests.support.tolerances import ENGINES


def test_real_steps_end_with_the_last_value() -> None:
    window = torch.tensor([[[1.0, torch.nan, 2.0, torch.nan], [torch.nan, torch.nan, torch.nan, torch.nan]]])
    assert real_steps(window).tolist() == [[True, True, True, False]]


def test_normalization_ignores_missing_values() -> None:
    window = torch.randn(1, 1, 50) * 3 + 5
    holes = window.clone()
    holes[..., 10:20] = torch.nan
    normal, _ = Normalize(1)(holes)
    seen = torch.cat([normal[..., :10], normal[..., 20:]], dim=-1)
    assert normal[..., 10:20].abs().max() == 0
    assert abs(float(seen.mean())) < 1e-6
    assert float(seen.std(correction=0)) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("level", [-0.48846787, 3.3, 101_325.3])
@pytest.mark.parametrize("steps", [37, 480, 1461])
def test_a_flat_window_has_no_movement(level: float, steps: int) -> None:
    """Where the rounding of the mean was taken for a signal, engines gave other decisions."""
    flat = torch.full((1, 1, steps), level)
    flat[..., 5:9] = torch.nan
    normal, features = Normalize(1)._split(flat)
    assert normal.abs().max() < 1e-6
    assert features[0, 1] == pytest.approx(np.log(1e-6))


def test_small_movement_on_a_high_level_is_kept() -> None:
    window = 101_325 + torch.sin(torch.arange(500) * 0.1)[None, None]
    normal, _ = Normalize(1)(window)
    assert float(normal.std(correction=0)) == pytest.approx(1.0, abs=1e-5)


def test_channels_keep_their_sizes_to_each_other() -> None:
    """A channel that lies still in a window is not blown up to the size of one that moves."""
    training = torch.randn(40, 3, 200) * torch.tensor([1.0, 50.0, 0.01])[:, None] + 7.0
    module = Normalize(3)
    module.fit(training)
    usual = module(training)[0].std(-1)
    torch.testing.assert_close(usual, torch.ones_like(usual), atol=0.3, rtol=0)
    window = training[:1].clone()
    window[:, 0] = 7.0 + 0.05 * (window[:, 0] - 7.0)
    still, large, small = module(window)[0].std(-1)[0].tolist()
    assert still == pytest.approx(0.05 * large, rel=0.3)
    assert large == pytest.approx(small, rel=0.3)
    # The window as a whole has one scale: all channels five times as large is the same window.
    torch.testing.assert_close(module(5 * window)[0], module(window)[0], atol=1e-4, rtol=0)


def test_a_broken_channel_leaves_the_others_their_size() -> None:
    training = torch.randn(40, 4, 200)
    module = Normalize(4)
    module.fit(training)
    window = training[:1].clone()
    window[:, 0] *= 1e6
    assert module(window)[0][0, 1:].std(-1).min() > 1 / LARGEST_RATIO
    window[:, 0] = torch.nan
    others = module(window)[0][0]
    assert others[0].abs().max() == 0
    assert others[1:].square().mean() == pytest.approx(1.0, abs=0.01)


def test_windows_in_which_a_channel_lies_still_do_not_set_what_is_usual() -> None:
    windows = torch.randn(40, 2, 200)
    module = Normalize(2)
    module.fit(windows)
    usual = module.usual.clone()
    windows[::2, 1] = 0.7
    windows[1, 1] = torch.nan
    module.fit(windows)
    torch.testing.assert_close(module.usual, usual, atol=0.05, rtol=0)


def test_one_channel_or_channels_apart_have_spread_one_each() -> None:
    for module, channels in ((Normalize(1), 1), (Normalize(3, is_joint=False), 3)):
        windows = torch.randn(8, channels, 100) * torch.rand(8, channels, 1)
        module.fit(windows)
        spread = module(windows)[0].std(-1, correction=0)
        torch.testing.assert_close(spread, torch.ones_like(spread), atol=1e-4, rtol=0)


def test_level_is_given_back_only_where_it_varies() -> None:
    module = Normalize(1)
    module.fit(torch.randn(20, 1, 100) + torch.arange(20.0)[:, None, None])
    assert module(torch.randn(1, 1, 100) + 30)[1][0, 0] > 1.5
    module.fit(torch.nn.functional.layer_norm(torch.randn(20, 1, 100), (100,)))
    assert module(torch.randn(5, 1, 100) + 30)[1].abs().max() == 0


def test_bank_counts_the_steps_above_a_threshold() -> None:
    """With ramps as narrow as steps, a token's feature is MiniRocket's proportion over its steps."""
    bank = FilterBank(1, filters=3, dilations=(1, 2), thresholds=2, patch=10)
    windows = torch.randn(30, 1, 95)
    bank.fit(windows, None)
    bank.slope.fill_(1e6)
    shares = bank(windows, None) * bank.spread[:, None] + bank.center[:, None]
    response = torch.nn.functional.conv1d(windows, bank.weight[1], dilation=2, padding=8)
    for kernel in range(3):
        for threshold in range(2):
            above = (response[:, kernel] > bank.threshold[1, kernel, threshold]).float()
            expected = torch.stack([part.mean(-1) for part in above.split(10, dim=-1)], dim=-1)
            torch.testing.assert_close(shares[:, 6 + kernel * 2 + threshold], expected, atol=1e-3, rtol=0)


@pytest.mark.parametrize(("steps", "patch", "channels"), [(1460, 8, 1), (37, 5, 3), (64, 1, 2), (3, 8, 1)])
@pytest.mark.parametrize("is_padded", [False, True])
def test_fast_bank_is_the_written_one(steps: int, patch: int, channels: int, is_padded: bool) -> None:
    torch.manual_seed(0)
    bank = FilterBank(channels, filters=28, dilations=(1, 4, 16, 64), thresholds=4, patch=patch)
    window = torch.randn(19, channels, steps).cumsum(-1)
    real = torch.arange(steps) < torch.randint(0, steps + 1, (19, 1)) if is_padded else None
    bank.fit(window, real)
    slow = bank(window.requires_grad_(), real)
    fast = bank(window.detach(), real)
    assert slow.requires_grad
    assert not fast.requires_grad
    torch.testing.assert_close(fast, slow, rtol=ENGINES.relative, atol=ENGINES.absolute * 10)


def test_dropout_keeps_the_mean_and_is_nothing_outside_training() -> None:
    torch.manual_seed(0)
    x = torch.ones(100, 1001, requires_grad=True)
    dropout = Dropout(0.25)
    dropped = dropout(x)
    assert float(dropped.detach().mean()) == pytest.approx(1.0, abs=0.01)
    assert float((dropped == 0).float().mean()) == pytest.approx(0.25, abs=0.01)
    dropped.sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, dropped.detach())
    assert dropout.eval()(x) is x
    assert Dropout(0.0)(x) is x


def test_every_kernel_listens_to_a_channel() -> None:
    weight = FilterBank(7, filters=20, dilations=(1,), thresholds=1, patch=4).weight
    assert (weight.abs().sum((-1, -2)) > 0).all()
    assert torch.equal(weight.sum(-1), torch.zeros(1, 20, 7))


def test_schedules() -> None:
    settings = TrainingConfig(budget=0.3)
    shares = [attention_share(step, 100, settings) for step in range(100)]
    assert shares[0] == 1.0
    assert shares[-1] == shares[34] == 0.3
    assert all(a >= b for a, b in itertools.pairwise(shares))
    disturbed = [augmented_share(step, 100, settings) for step in range(100)]
    assert disturbed[33] == 0.0
    assert disturbed[34] == disturbed[-1] == settings.augment > 0
    rates = [learning_rate(step, 100, 1.0) for step in range(100)]
    assert max(rates) == pytest.approx(1.0)
    assert rates[0] < 0.1
    assert rates[-1] < 0.01


def test_groups_are_never_torn() -> None:
    groups = np.array([f"g{i % 5}" for i in range(50)])
    data = SeriesSet([np.zeros((1, 3), dtype=np.float32)] * 50, ("x",), np.array(["a", "b"] * 25), groups)
    kept, held = hold_out(data, 0.4, seed=0)
    assert not set(groups[kept]) & set(groups[held])
    assert len(kept) + len(held) == 50
    assert len(held) == 20


def test_a_group_that_alone_has_a_class_is_not_held_out() -> None:
    series = [np.zeros((1, 3), dtype=np.float32)] * 30
    groups = np.repeat(["g0", "g1", "g2"], 10)
    labels = np.array(["a", "b"] * 10 + ["a", "c"] * 5)
    for seed in range(5):
        _, held = hold_out(SeriesSet(series, ("x",), labels, groups), 0.3, seed=seed)
        assert set(groups[held]) < {"g0", "g1"}
        # Each group has a class to itself: every class gives its share.
        kept, held = hold_out(
            SeriesSet(series, ("x",), np.repeat(["a", "b", "c"], 10), groups), 0.3, seed=seed
        )
        assert len(held) == 9
        assert set(groups[kept]) == set(groups)


def test_data_warnings_about_the_data() -> None:
    still = np.stack([np.arange(4.0), np.ones(4), np.full(4, np.nan)]).astype(np.float32)
    channels = ("moves", "still", "lost")

    def lines(labels: list[str] | list[float], task: Literal["classification", "regression"]) -> list[str]:
        data = SeriesSet([still] * len(labels), channels, np.array(labels))
        return data_warnings(data, TrainingConfig(task=task))[2:]

    data = SeriesSet([still] * 4, channels, np.array(["a", "a", "b", "b"]))
    assert data_warnings(data, TrainingConfig()) == [
        "channel still is constant within every series.",
        "channel lost has no value in any series.",
    ]
    assert lines(["a", "b", "c"], "classification") == ["3 series have 3 classes: is this the label column?"]
    assert lines(["a", "b", "b"], "classification") == ["classes with one series only: a."]
    assert lines([2.0, 2.0, 2.0], "regression") == ["every target is 2: there is nothing to learn."]
    assert lines([1.0, 2.0, 2.0], "regression") == []


def test_every_class_keeps_a_series_to_train_on() -> None:
    labels = np.array(["a"] * 10 + ["b"] * 2 + ["c"])
    data = SeriesSet([np.zeros((1, 3), dtype=np.float32)] * 13, ("x",), labels)
    kept, held = hold_out(data, 0.5, seed=0)
    assert set(labels[kept]) == {"a", "b", "c"}
    assert len(held) == 6


def test_shift_rotates_the_series_and_leaves_the_padding() -> None:
    torch.manual_seed(0)
    window = torch.arange(10.0).repeat(4, 1, 1)
    lengths = torch.tensor([10, 10, 7, 7])
    shifted = shift_in_time(window, lengths, 0.5)
    assert not torch.equal(shifted, window)
    for row, length in zip(shifted, lengths.tolist(), strict=True):
        assert sorted(row[0, :length].tolist()) == list(range(length))
        assert row[0, length:].tolist() == list(range(length, 10))


@pytest.mark.parametrize("change", AUGMENTATIONS, ids=lambda change: change.__name__)
def test_disturbances_stay_within_a_window(change: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Padding is left alone, nothing but a gap takes values away, and a window of one step is no error."""
    torch.manual_seed(0)
    lengths = torch.tensor([200, 1, 2, 120, 200, 77] * 4)
    real = (torch.arange(200) < lengths[:, None])[:, None].expand(-1, 2, -1)
    window = torch.sin(0.1 * torch.arange(200.0)).expand(24, 2, 200).masked_fill(~real, torch.nan)
    changed = change(window, lengths)
    assert torch.isnan(changed[~real]).all()
    missing = torch.isnan(changed) & real
    assert missing.any() if change is gap else not missing.any()
    seen = real & ~missing
    distance = (changed - window)[seen].abs()
    assert (missing.any() or distance.mean() > 1e-3) and distance.max() < 2.5


def test_a_hole_does_not_grow_where_time_stands() -> None:
    """Steps that fall on steps keep their value, whatever their neighbor is."""
    window = torch.arange(10.0).repeat(1, 1, 1)
    window[..., 4] = torch.nan
    found = between(window, torch.arange(10.0)[None])
    torch.testing.assert_close(found, window, equal_nan=True)


def test_about_the_asked_share_is_disturbed() -> None:
    torch.manual_seed(0)
    window = torch.randn(2000, 1, 40)
    lengths = torch.full((2000,), 40)
    for share in (0.2, 0.5):
        changed = ~torch.isclose(augment(window, lengths, share), window).all(-1)
        assert float(changed.float().mean()) == pytest.approx(share, abs=0.04)
    assert augment(window, lengths, 0.0) is window


@pytest.mark.parametrize(
    ("steps", "patch", "block_size", "dilations"),
    [
        (100, 1, 8, (1, 4)),
        (427, 2, 16, (1, 4, 16)),
        (720, 4, 16, (1, 4, 16)),
        (1460, 8, 16, (1, 4, 16, 64)),
        (8000, 8, 64, (1, 4, 16, 64)),
        (3, 1, 4, (1,)),
    ],
)
def test_sizes_follow_the_windows(
    steps: int, patch: int, block_size: int, dilations: tuple[int, ...]
) -> None:
    assert choose_sizes(ModelConfig(), [steps]) == ModelConfig(
        patch=patch, block_size=block_size, dilations=dilations, filters=28, competing_groups=16
    )
    given = ModelConfig(patch=5, block_size=7, filters=9, competing_groups=2)
    assert choose_sizes(given, [1024]) == given


@pytest.mark.parametrize(
    ("series", "steps", "settings", "filters", "groups"),
    [
        (20, 512, {}, 84, 64),
        (20, 513, {}, 28, 16),
        (1025, 512, {}, 28, 16),
        (20, 512, {"filters": 5, "competing_groups": 3}, 5, 3),
    ],
)
def test_a_small_model_has_more_filters_where_windows_are_short(
    series: int, steps: int, settings: dict[str, int], filters: int, groups: int
) -> None:
    sized = choose_sizes(ModelConfig(layers=0, **settings), series * [steps])
    assert (sized.filters, sized.competing_groups) == (filters, groups)


def test_typical_window_is_nearer_to_the_long_ones() -> None:
    assert typical_steps([300, 300, 300]) == 300
    assert typical_steps([100, 700]) == 592
    # Long kernels stay for the longest window.
    assert choose_sizes(ModelConfig(), [200] * 20 + [1100]).dilations == (1, 4, 16, 64)
