"""The closed-form head: what it minimizes, what it keeps, and what its calibration does."""

from __future__ import annotations

import numpy as np
import pytest

from edgesparse_runtime.operation.update.ask import choose_windows
from edgesparse_runtime.operation.update.calibrate import fit_calibration
from edgesparse_runtime.operation.update.head import Head
from edgesparse_runtime.operation.update.paired import compare_right, sign_test
from edgesparse_runtime.operation.update.ridge import (
    PENALTIES,
    Examples,
    _changes,
    _solve,
    cross_fit,
    entropy,
    fit_head,
    folds_of,
)


def make_examples(count: int, angle: float, seed: int = 0) -> tuple[Examples, Head]:
    """Two classes along a direction that the given head knows, turned by an angle."""
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, 2, count)
    along = np.array([np.cos(angle), np.sin(angle), 0, 0])
    features = rng.standard_normal((count, 4)) + np.outer(2 * targets - 1, 2 * along)
    before = Head(np.array([[-1.0, 0, 0, 0], [1.0, 0, 0, 0]]), np.zeros(2))
    groups = np.array([str(i // 4) for i in range(count)])
    return Examples(features, targets, np.ones(count), folds_of(groups, targets)), before


def share_right(head: Head, examples: Examples) -> float:
    return float((head.logits(examples.features).argmax(axis=1) == examples.targets).mean())


def test_a_turned_class_is_learned() -> None:
    examples, before = make_examples(300, np.pi / 2)
    later, _ = make_examples(2_000, np.pi / 2, seed=1)
    head, penalty = fit_head(examples, before)
    assert share_right(before, later) < 0.6 < 0.95 < share_right(head, later)
    assert penalty < PENALTIES[-1]
    left_out = cross_fit(examples, before).argmax(axis=1) == examples.targets
    assert abs(left_out.mean() - share_right(head, later)) < 0.04


def test_with_the_largest_penalty_no_decision_changes() -> None:
    examples, before = make_examples(100, np.pi / 3)
    ((weight, bias),) = _solve(examples, before, (PENALTIES[-1],))
    same = Head(weight, bias).logits(examples.features).argmax(axis=1)
    assert (same == before.logits(examples.features).argmax(axis=1)).all()


@pytest.mark.parametrize("shape", [(30, 200), (200, 30), (40, 40)])
def test_either_way_to_the_minimum_leads_there(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal(shape), rng.standard_normal((shape[0], 3))
    for penalty, found in zip((0.1, 10.0), _changes(x, y, (0.1, 10.0)), strict=True):
        direct = np.linalg.solve(x.T @ x + penalty * np.eye(shape[1]), x.T @ y)
        np.testing.assert_allclose(found, direct, rtol=1e-9, atol=1e-9)


def test_the_solution_is_the_minimum_that_its_docstring_states() -> None:
    examples, before = make_examples(60, 1.0)
    penalty = 0.1
    ((weight, bias),) = _solve(examples, before, (penalty,))
    w, x = examples.weights, examples.features
    center, spread = x.mean(axis=0), x.std(axis=0) + 1e-6
    z = np.concatenate([(x - center) / spread, np.ones((len(x), 1))], axis=1)
    y = np.eye(2)[examples.targets] - 0.5
    old = before.logits(x)
    old -= old.mean(axis=1, keepdims=True)
    s = (y * old).sum() / (old * old).sum()
    change = np.linalg.solve(z.T @ z + penalty * w.sum() * np.eye(5), z.T @ (y - s * old))
    assert np.allclose(x @ weight.T + bias, s * old + z @ change)


def test_probabilities_are_calibrated() -> None:
    examples, before = make_examples(400, 0.0)
    wild = Head(20 * before.weight, np.array([3.0, 0.0]))
    later, _ = make_examples(2_000, 0.0, seed=1)
    for head in (fit_calibration(examples, wild), fit_head(examples, wild)[0]):
        loss = entropy(head.logits(later.features), later.targets, later.weights)
        assert loss < 0.15 < entropy(wild.logits(later.features), later.targets, later.weights)


def test_folds_keep_groups_together() -> None:
    groups = np.array(list("aaabbbccccdddd"))
    folds = folds_of(groups, np.zeros(14, dtype=np.int64))
    assert all(len(set(folds[groups == g].tolist())) == 1 for g in "abcd") and len(set(folds.tolist())) == 4
    alone = folds_of([str(i) for i in range(10)], np.repeat([0, 1], 5))
    assert sorted(alone[:5].tolist()) == sorted(alone[5:].tolist()) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("gained", "lost", "p"), [(0, 0, 1.0), (5, 0, 0.0625), (1, 9, 0.021484375), (4, 4, 1.0)]
)
def test_sign_test_is_exact(gained: int, lost: int, p: float) -> None:
    assert sign_test(gained, lost) == pytest.approx(p)


def test_paired_figures() -> None:
    before = np.array([True] * 6 + [False] * 4)
    after = np.array([True] * 5 + [False] + [True] * 4)
    pair = compare_right(before, after, None)
    assert (pair.gained, pair.lost, pair.n, pair.groups) == (4, 1, 10, None)
    assert pair.difference == pytest.approx(0.3) and pair.low < 0.3 < pair.high
    assert pair.margin == pytest.approx(max(0.0, -pair.low))

    # Without one loss in 40 windows up to 9 % may be lost.
    same = compare_right(np.ones(40, dtype=np.bool_), np.ones(40, dtype=np.bool_), None)
    assert same.margin == pytest.approx(1 - 0.025 ** (1 / 40), abs=5e-3)


def test_windows_to_label_are_doubtful_or_far() -> None:
    rng = np.random.default_rng(0)
    features = rng.standard_normal((40, 3))
    features[7] += 30
    features[9] = features[7] + 0.01
    scores = np.tile([0.9, 0.1], (40, 1))
    scores[3] = [0.51, 0.49]
    chosen = choose_windows(4, scores, features, features[10:20], np.full(40, ""))
    assert chosen[0].row == 3 and chosen[0].reason == "uncertain"
    # Of two windows of one kind one is enough.
    assert [c.row for c in chosen if c.row in (7, 9)] in ([7], [9])
    two = choose_windows(4, scores, features, features[10:20], np.repeat(["a", "b"], 20))
    assert sum(c.row < 20 for c in two) == 2
