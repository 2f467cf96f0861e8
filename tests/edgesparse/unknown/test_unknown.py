"""The score of unknown windows: its threshold, its left-out figures, and what it is for."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from edgesparse.unknown import fit
from edgesparse.unknown.fit import fit_unknown, threshold_of
from edgesparse.unknown.score import UnknownScore, from_state


def make_features(
    count: int, seed: int, groups: int = 0
) -> tuple[torch.Tensor, torch.Tensor, np.ndarray | None]:
    """Three classes around three points; with `groups`, each group has an offset of its own."""
    rng = np.random.default_rng(seed)
    targets = np.arange(count) % 3
    center = np.random.default_rng(0).standard_normal((3, 40))
    x = 2 * center[targets] + 0.3 * rng.standard_normal((count, 40))
    named = None
    if groups:
        own = np.arange(count) // 3 % groups
        x += 0.6 * np.random.default_rng(seed + 1).standard_normal((groups, 40))[own]
        named = own.astype(str)
    return torch.from_numpy(x).float(), torch.from_numpy(targets), named


def test_threshold_is_a_quantile_that_holds_for_new_windows() -> None:
    assert threshold_of(np.arange(1.0, 20.0), 0.05) == 19.0
    assert threshold_of(np.arange(1.0, 40.0), 0.05) == 38.0
    # Too few to state the rate: the largest.
    assert threshold_of(np.arange(1.0, 6.0), 0.05) == 5.0


@pytest.mark.parametrize("groups", [0, 6])
def test_new_good_windows_are_refused_at_the_stated_rate(groups: int) -> None:
    refused = []
    for seed in range(8):
        known, targets, named = make_features(90, seed * 10, groups)
        found = fit_unknown(known, targets, 3, named, known[:0])
        assert found is not None
        score, report = found
        assert report.groups == (groups or None) and report.windows == 90
        new, _, _ = make_features(300, seed * 10 + 5, groups)
        refused.append(float((score(new) > 1).float().mean()))
    # Groups of the new windows are others than those of training.
    assert np.mean(refused) < (0.15 if groups else 0.09)


def test_far_windows_and_a_class_left_out_are_above_good_ones() -> None:
    known, targets, _ = make_features(90, 1)
    new, kinds, _ = make_features(90, 2)
    two = targets < 2
    found = fit_unknown(known[two], targets[two], 2, None, known[:0])
    assert found is not None
    score = found[0]
    good, third, far = score(new[kinds < 2]), score(new[kinds == 2]), score(new[kinds < 2] + 8)
    assert float(third.min()) > float(good.quantile(0.95)) and float(third.min()) > 1
    assert float(far.min()) > float(third.max()) / 2 and float(far.min()) > 1


@pytest.mark.parametrize("groups", [0, 5])
def test_left_out_rows_are_those_of_a_map_without_the_group(groups: int) -> None:
    known, targets, named = make_features(30, 3, groups)
    x, y = known.double().numpy(), np.eye(3)[targets.numpy()]
    own = np.arange(30) if named is None else np.unique(named, return_inverse=True)[1]
    middle, mean = x.mean(0), y.mean(0)
    square, vectors = np.linalg.eigh((x - middle) @ (x - middle).T)
    square = np.maximum(square, 0)
    penalty = 0.1 * square.sum() / len(x)
    kept = square / (square + penalty)
    missed = (y - mean) - vectors @ (kept[:, None] * (vectors.T @ (y - mean)))
    error = fit._left_out_error(vectors, kept, missed, own)
    for group in np.unique(own):
        out = own == group
        # The map of the others, with the same penalty and a free mean.
        a = np.concatenate([x[~out], np.ones((int((~out).sum()), 1))], axis=1)
        shrink = penalty * np.eye(41)
        shrink[-1, -1] = 0
        weight = np.linalg.solve(a.T @ a + shrink, a.T @ y[~out])
        expected = y[out] - np.concatenate([x[out], np.ones((int(out.sum()), 1))], axis=1) @ weight
        assert np.allclose(error[out], expected, atol=1e-3)


def test_it_is_stored_and_read_and_too_few_windows_give_none() -> None:
    known, targets, _ = make_features(30, 4)
    found = fit_unknown(known, targets, 3, None, known[:0])
    assert found is not None
    again = from_state(dict(found[0].state_dict()))
    torch.testing.assert_close(again(known), found[0](known))
    assert fit_unknown(known[:3], targets[:3], 3, None, known[:0]) is None
    numbers = fit_unknown(known, torch.zeros(30), 0, None, known[:0])
    assert numbers is not None and isinstance(numbers[0], UnknownScore) and not len(numbers[0].bias)
    assert float(numbers[0](known + 9).min()) > 1
