"""Attention within token windows and packed texts: the fast path against the naive twin, gradients too."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings

from edgesparse.attention import window, window_reference
from edgesparse.attention.attributes import WindowAttributes
from edgesparse_runtime.errors import InputError
from tests.support.kernels.windows import WINDOW_CASES, WindowCase, any_window_case
from tests.support.tolerances import MODULE


def run_both(case: WindowCase) -> list[tuple[torch.Tensor, list[torch.Tensor]]]:
    """Output and gradients of both, from the same inputs."""
    found = []
    feeds = {name: torch.from_numpy(x) for name, x in case.feeds().items()}
    for attend in (window_reference.window_attention, window.window_attention):
        leaves = [feeds[x].clone().requires_grad_() for x in ("query", "key", "value")]
        output = attend(*leaves, feeds["key_mask"], feeds["starts"], attributes=case.node())
        weight = torch.arange(output.numel()).view(output.shape).cos()
        (output * weight).sum().backward()
        found.append((output.detach(), [x.grad for x in leaves if x.grad is not None]))
    return found


def check(case: WindowCase) -> None:
    (expected, expected_grads), (actual, grads) = run_both(case)
    assert len(grads) == len(expected_grads) == 3
    pairs = zip([actual, *grads], [expected, *expected_grads], strict=True)
    for ours, theirs in pairs:
        torch.testing.assert_close(ours, theirs, rtol=MODULE.relative, atol=10 * MODULE.absolute)


@pytest.mark.parametrize("case", [x for x in WINDOW_CASES if x.name != "large_logits"], ids=lambda x: x.name)
def test_the_fast_path_equals_the_reference(case: WindowCase) -> None:
    check(case)


@settings(max_examples=60, deadline=None)
@given(case=any_window_case())
def test_any_call_equals_the_reference(case: WindowCase) -> None:
    check(case)


def test_gradients_are_those_of_finite_differences() -> None:
    mask = torch.tensor([[True] * 9 + [False] * 2])
    leaves = [torch.randn(1, 11, 4, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    attributes = WindowAttributes(2, 1, 0.7, 3, 2)

    def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        return window.window_attention(
            query, key[..., :2], value[..., :2], mask, torch.tensor([0, 6]), attributes=attributes
        )

    assert torch.autograd.gradcheck(attend, leaves)


def test_the_fast_path_holds_nothing_of_all_pairs() -> None:
    """16,384 tokens: all pairs of one head are 1 GB."""
    x = torch.randn(1, 16384, 8)
    mask = torch.ones(1, 16384, dtype=torch.bool)
    sizes = []

    class Watch(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            result = function(*args, **(kwargs or {}))
            if isinstance(result, torch.Tensor):
                sizes.append(result.numel())
            return result

    with Watch():
        window.window_attention(
            x, x, x, mask, torch.tensor([0]), attributes=WindowAttributes(1, 1, 0.3, 64, 64)
        )
    assert max(sizes) <= x.numel()


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"left_window": -2}, "`left_window` must be -1"),
        ({"right_window": -5}, "`right_window` must be -1"),
        ({"num_heads": 4, "kv_num_heads": 3}, "`kv_num_heads` must divide"),
        ({"scale": float("inf")}, "`scale` must be finite"),
    ],
)
def test_bad_attributes_are_refused(values: dict[str, float], words: str) -> None:
    with pytest.raises(InputError, match=words):
        WindowAttributes(**values)  # type: ignore[arg-type]
