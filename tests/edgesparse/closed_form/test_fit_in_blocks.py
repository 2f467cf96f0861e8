"""The fit block by block against the one in memory, and against maps without each window."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from edgesparse.closed_form import fit_in_blocks
from edgesparse.closed_form.fit_in_blocks import BlockFit
from edgesparse.closed_form.fit_skip import NOISE_WEIGHT, fit_skip
from edgesparse.config import ModelConfig
from edgesparse.model.skip import Skip
from edgesparse.model.transformer import SequenceTransformer, choose_sizes
from tests.support.tolerances import ENGINES

CLASSES = 3


def made_skip(outputs: int = CLASSES) -> Skip:
    config = ModelConfig(layers=0, filters=3, competing_groups=1, dilations=(1,), thresholds=2)
    model = SequenceTransformer(choose_sizes(config, [64]), channels=1, outputs=outputs)
    assert model.skip is not None
    return model.skip


def made(n: int, features: int) -> tuple[Tensor, Tensor, Tensor]:
    """Features as they are and with noise, of a scale and place each, and the class of each."""
    generator = torch.Generator().manual_seed(0)
    targets = torch.arange(n) % CLASSES
    clean = torch.randn(n, features, generator=generator)
    clean[:, :CLASSES] += torch.nn.functional.one_hot(targets, CLASSES)
    clean = 3.0 + clean * torch.linspace(0.5, 20.0, features)
    return clean, clean + torch.randn(n, features, generator=generator), targets


def block_fit(skip: Skip, clean: Tensor, noisy: Tensor, targets: Tensor, classes: int) -> BlockFit:
    return BlockFit(skip, lambda rows, is_noisy: (noisy if is_noisy else clean)[rows], targets, classes)


@pytest.mark.parametrize("is_classifier", [True, False])
@pytest.mark.parametrize("n", [40, 300])
def test_the_map_is_that_of_the_fit_in_memory(
    n: int, is_classifier: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fit_in_blocks, "BLOCK", 17)
    classes = CLASSES if is_classifier else 0
    skips = [made_skip(classes or 1) for _ in range(2)]
    clean, noisy, targets = made(n, skips[0].features)
    labels = targets if is_classifier else targets - clean[:, 1] / 20
    expected_out, expected, series = fit_skip(skips[0], clean, noisy, labels, classes)
    fit = block_fit(skips[1], clean, noisy, labels, classes)
    found = fit.fit()
    assert series == n
    assert found.shrinkage == expected.shrinkage
    assert found.loss == pytest.approx(expected.loss, rel=1e-6)
    near = {"rtol": ENGINES.relative, "atol": ENGINES.absolute}
    for name in ("center", "sharpness", "weight", "bias"):
        torch.testing.assert_close(getattr(skips[1], name), getattr(skips[0], name), **near)
    torch.testing.assert_close(found.left_out, expected_out, **near)
    torch.testing.assert_close(fit.left_out(), expected_out, **near)


def test_of_many_windows_each_is_left_out_of_the_map_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fit_in_blocks, "BLOCK", 64)
    monkeypatch.setattr(fit_in_blocks, "NOISY", 50)
    monkeypatch.setattr(fit_in_blocks, "SAMPLE", 20)
    skip = made_skip()
    clean, noisy, targets = made(200, skip.features)
    asked: list[int] = []
    fit = block_fit(skip, clean, noisy, targets, CLASSES)
    fit.advance = asked.append
    found = fit.fit()
    assert sum(asked) == fit.steps == 200 + 50 + 2 * 20
    assert max(asked) <= 64
    # The same rows, weights and shrinkage in one solve per window that is left out.
    x = torch.cat([skip.standardized(clean), skip.standardized(noisy[fit.noisy])]).double()
    y = torch.nn.functional.one_hot(torch.cat([targets, targets[fit.noisy]]), CLASSES).double()
    owner = torch.cat([torch.arange(200), fit.noisy])
    share = torch.cat([torch.ones(200), torch.full((50,), NOISE_WEIGHT * 200 / 50)]).double()
    share = share / share.sum()
    centered = x - (share[:, None] * x).sum(0)
    penalty = found.shrinkage * float((share[:, None] * centered.square()).sum()) / 200
    expected = []
    for row in range(200):
        kept = owner != row
        rows = torch.cat([x[kept], torch.ones(int(kept.sum()), 1).double()], dim=1)
        shrink = penalty * torch.eye(rows.shape[1]).double()
        shrink[-1, -1] = 0.0
        weighted = rows * share[kept][:, None]
        weight = torch.linalg.solve(rows.mT @ weighted + shrink, weighted.mT @ y[kept])
        expected.append(found.factor * (x[row] @ weight[:-1] + weight[-1]))
    wanted = torch.stack(expected).float()
    torch.testing.assert_close(fit.left_out(), wanted, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(found.left_out, wanted[fit.sample], rtol=1e-3, atol=1e-3)
