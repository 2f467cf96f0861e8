"""Plain PyTorch modules through the adapter."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from edgesparse.dropin import attention_mode, calibrate, counted_density, dropin_layers
from edgesparse.dropin.sparsify import sparsify
from edgesparse_runtime.errors import InputError
from tests.edgesparse.dropin.tiny_models import OwnAttention


def make(kind: str) -> nn.Module:
    torch.manual_seed(0)
    if kind == "own":
        return nn.Sequential(OwnAttention(), OwnAttention()).eval()
    layer = nn.TransformerEncoderLayer(32, 4, 48, batch_first=True)
    if kind == "layer":
        return layer.eval()
    assert kind == "encoder"
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False).eval()


@pytest.mark.parametrize(("kind", "layers"), [("own", 2), ("layer", 1), ("encoder", 2)])
def test_all_kept_says_the_same_and_calibration_thins_it_out(kind: str, layers: int) -> None:
    model, x = make(kind), torch.randn(2, 70, 32)
    with torch.no_grad():
        dense = model(x)
        assert sparsify(model, block_size=8) is model
        torch.testing.assert_close(model(x), dense, rtol=1e-4, atol=1e-5)
    assert len(dropin_layers(model)) == layers
    found = calibrate(model, [x], density=0.4, router_steps=30)
    assert 0.1 < found.density < 0.5
    with torch.no_grad():
        assert not torch.equal(model(x), dense)
    with attention_mode(model, "dense"):
        torch.testing.assert_close(model(x), dense, rtol=1e-4, atol=1e-5)
        assert counted_density(model) == 1.0


class Wrapped(nn.Module):
    """nn.MultiheadAttention with the masks that it takes."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(32, 4, batch_first=True)

    def forward(self, x: torch.Tensor, **masks: object) -> torch.Tensor:
        mixed: torch.Tensor = self.attention(x, x, x, need_weights=False, **masks)[0]
        return mixed


def test_multi_head_attention_with_padding() -> None:
    torch.manual_seed(0)
    model, x = Wrapped().eval(), torch.randn(2, 40, 32)
    hidden = torch.zeros(2, 40, dtype=torch.bool)
    hidden[1, 30:] = True
    with torch.no_grad():
        dense = model(x, key_padding_mask=hidden)
        sparsify(model, block_size=8)
        torch.testing.assert_close(model(x, key_padding_mask=hidden), dense, rtol=1e-4, atol=1e-5)
    assert len(dropin_layers(model)) == 1


@pytest.mark.parametrize("padded", [False, True])
def test_causal_multi_head_attention(padded: bool) -> None:
    torch.manual_seed(0)
    model, x = Wrapped().eval(), torch.randn(2, 40, 32)
    causal = torch.ones(40, 40, dtype=torch.bool).triu(1)
    hidden = torch.zeros(2, 40, dtype=torch.bool)
    hidden[1, 30:] = padded
    with torch.no_grad():
        dense = model(x, attn_mask=causal, key_padding_mask=hidden)
        sparsify(model, block_size=8)
        masks = {"attn_mask": causal, "is_causal": True}
        if padded:
            masks["key_padding_mask"] = hidden
        torch.testing.assert_close(model(x, **masks), dense, rtol=1e-4, atol=1e-5)
    assert dropin_layers(model)[0].is_causal


def test_cross_attention_and_masks_of_pairs_stay_dense() -> None:
    torch.manual_seed(0)

    class Cross(nn.Module):
        def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            attend = torch.nn.functional.scaled_dot_product_attention
            pairs = torch.ones(40, 40, dtype=torch.bool).tril()
            return attend(attend(x, y, y), x, x, attn_mask=pairs)

    model, x, y = Cross(), torch.randn(1, 2, 40, 8), torch.randn(1, 2, 24, 8)
    expected = model(x, y)
    sparsify(model, block_size=8)
    torch.testing.assert_close(model(x, y), expected)
    assert not dropin_layers(model)


def test_a_failed_pass_leaves_pytorch_as_it_was() -> None:
    model = sparsify(make("own"), block_size=8)
    with pytest.raises(RuntimeError):
        model(torch.randn(2, 70, 31))
    assert torch.overrides._get_current_function_mode_stack() == []


def test_another_order_of_calls_is_refused() -> None:
    class Fickle(nn.Module):
        heads = 2

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            split = x.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            return torch.nn.functional.scaled_dot_product_attention(split, split, split)

    model = sparsify(Fickle(), block_size=8)
    model(torch.randn(1, 20, 16))
    model.heads = 4
    with pytest.raises(InputError, match="must be the same in each pass"):
        model(torch.randn(1, 20, 16))


def test_half_precision_is_refused() -> None:
    with pytest.raises(InputError, match="must be in float32"):
        sparsify(nn.Linear(2, 2).half())


@pytest.mark.parametrize("hiding", [float("-inf"), -1e9, torch.finfo(torch.float32).min])
def test_numbers_that_hide_are_masks_and_others_are_refused(hiding: float) -> None:
    model, x = make("encoder"), torch.randn(2, 40, 32)
    future = torch.zeros(40, 40).masked_fill(torch.ones(40, 40, dtype=torch.bool).triu(1), hiding)
    with torch.no_grad():
        dense = model(x, mask=future)
        sparsify(model, block_size=8)
        torch.testing.assert_close(model(x, mask=future), dense, rtol=1e-4, atol=1e-5)
        with pytest.raises(InputError, match="must hold 0 and minus infinity only"):
            model(x, mask=future + 0.5)


def test_calibration_refuses_what_is_not_finite() -> None:
    model, x = make("layer"), torch.randn(4, 70, 32)
    x[1, 3, 2] = torch.nan
    with pytest.raises(InputError, match="must hold finite numbers"):
        sparsify(model, [x[:2], x[2:]], density=0.5, block_size=8)
