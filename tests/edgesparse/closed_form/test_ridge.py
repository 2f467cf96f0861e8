"""The closed form against what it stands for: a map fitted again without each series."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot

from edgesparse.closed_form.ridge import NEUTRAL, SHRINKAGE, fit_ridge


def naive(x_VnF: Tensor, target_nK: Tensor, shrinkage: float, weights: tuple[float, ...]) -> Tensor:
    """Outputs [n, K] of each series' first version by the map of all others, one solve per series."""
    versions, n, features = x_VnF.shape
    share = torch.tensor(weights, dtype=torch.float64).repeat_interleave(n)
    share = share / share.sum()
    rows, target = x_VnF.flatten(0, 1), target_nK.repeat(versions, 1)

    def solve(kept: Tensor, penalty: float) -> tuple[Tensor, Tensor]:
        x = torch.cat([rows[kept], torch.ones(len(kept), 1, dtype=torch.float64)], dim=1)
        shrink = penalty * torch.eye(features + 1, dtype=torch.float64)
        # The mean is not shrunk.
        shrink[-1, -1] = 0.0
        weighted = x * share[kept][:, None]
        return torch.linalg.solve(x.mT @ weighted + shrink, weighted.mT @ target[kept]).split([features, 1])

    everything = torch.arange(len(rows))
    centered = rows - (share[:, None] * rows).sum(0)
    penalty = shrinkage * float((share[:, None] * centered.square()).sum()) / n
    found = []
    for i in range(n):
        weight, bias = solve(everything[everything % n != i], penalty)
        found.append(x_VnF[0, i] @ weight + bias[0])
    return torch.stack(found)


@pytest.mark.parametrize("features", [5, 60])
@pytest.mark.parametrize("weights", [(1.0,), (1.0, 0.3)])
def test_left_out_outputs_are_those_of_a_map_without_the_series(
    features: int, weights: tuple[float, ...]
) -> None:
    torch.manual_seed(0)
    n, classes = 24, 3
    targets = torch.arange(n) % classes
    x = torch.randn(n, features, dtype=torch.float64) + targets[:, None] * torch.linspace(-1, 1, features)
    versions = torch.stack([x + 0.2 * i * torch.randn(n, features) for i in range(len(weights))])
    found = fit_ridge(versions, targets, classes, weights)
    expected = naive(versions, one_hot(targets, classes).double(), found.shrinkage, weights)
    # The factor to logits is the only unknown.
    factor = float(found.left_out.double().sum() / expected.sum())
    torch.testing.assert_close(found.left_out.double(), factor * expected, rtol=1e-3, atol=1e-3)


def test_targets_are_found_and_noise_is_shrunk() -> None:
    torch.manual_seed(0)
    x = torch.randn(1, 200, 8)
    exact = fit_ridge(x, x[0, :, 0] - 2 * x[0, :, 1], 0, (1.0,))
    torch.testing.assert_close(exact.weight[0, :2], torch.tensor([1.0, -2.0]), rtol=1e-2, atol=1e-2)
    noise = fit_ridge(x, torch.randn(200), 0, (1.0,))
    assert noise.shrinkage > 100 * exact.shrinkage
    assert noise.loss == pytest.approx(1.0, abs=0.2)


def test_few_series_that_are_all_right_do_not_make_certain() -> None:
    targets = torch.arange(6) % 2
    x = (2.0 * targets - 1.0)[None, :, None] + torch.zeros(1, 6, 4)
    found = fit_ridge(x, targets, 2, (1.0,))
    assert 0.8 < float(found.left_out.softmax(-1).max()) < 0.99


def test_one_series_a_class_leaves_nothing_to_choose_by() -> None:
    features = torch.randn(2, 6, 40, generator=torch.Generator().manual_seed(3))
    found = fit_ridge(features, torch.arange(6), 6, (1.0, 0.03))
    assert found.shrinkage == NEUTRAL and found.loss == pytest.approx(math.log(6))
    # Each is still told from the others.
    assert torch.equal((features[0] @ found.weight.mT + found.bias).argmax(1), torch.arange(6))


def test_a_class_of_one_series_has_no_part_in_the_choice() -> None:
    generator = torch.Generator().manual_seed(0)
    targets = torch.tensor([0] * 10 + [1] * 10)
    features = torch.randn(1, 20, 30, generator=generator) + 1.5 * targets[None, :, None]
    alone = fit_ridge(features, targets, 2, (1.0,))
    more = torch.cat([features, 4 * torch.randn(1, 12, 30, generator=generator)], dim=1)
    found = fit_ridge(more, torch.cat([targets, torch.arange(2, 14)]), 14, (1.0,))
    assert alone.shrinkage < SHRINKAGE[-1] and found.shrinkage < SHRINKAGE[-1]
    assert (found.left_out[:20].argmax(1) == targets).float().mean() >= 0.9
    # The loss is that of the others alone.
    expected = cross_entropy(found.left_out[:20], targets, label_smoothing=1 / (32 + 14))
    assert found.loss == pytest.approx(float(expected), rel=1e-4)
