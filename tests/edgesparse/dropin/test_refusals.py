"""What a user may hand over by mistake: one sentence, and the model as it was."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from edgesparse.dropin import calibrate, dropin_layers
from edgesparse.dropin.batches import read_batches
from edgesparse.dropin.outputs import run_model
from edgesparse.dropin.sparsify import sparsify
from edgesparse_runtime.errors import InputError
from tests.edgesparse.dropin.tiny_models import OwnAttention, sharpen, tiny

pytest.importorskip("transformers", reason="needs pip install 'edgesparse[dropin]'")


class Lazy:
    """A data set with a length that never says where it ends."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.full((2, 4, 3), float(index))


def generate() -> Iterator[dict[str, torch.Tensor]]:
    for _ in range(3):
        yield {"input_ids": torch.ones(2, 4, dtype=torch.int64)}


@pytest.mark.parametrize(
    ("batches", "count"),
    [
        (generate, 3),
        (Lazy, 2),
        (lambda: DataLoader(TensorDataset(torch.zeros(6, 4, 3)), batch_size=2), 3),
        (lambda: iter([torch.zeros(2, 4, 3)]), 1),
    ],
)
def test_whatever_gives_batches_is_read_once(batches: Callable[[], Any], count: int) -> None:
    found = read_batches(batches())
    assert len(found) == count
    assert all(isinstance(batch, torch.Tensor | dict) for batch in found)


def test_calibration_takes_a_generator_and_a_loader() -> None:
    model, batch = tiny("bert")
    sharpen(model)
    sparsify(model, (dict(batch) for _ in range(2)), density=0.5, block_size=8)
    rows = [{name: x[i] for name, x in batch.items()} for i in (0, 1, 0, 1)]
    assert calibrate(model, DataLoader(rows, batch_size=2), density=0.5, router_steps=5).held_out == 1


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        (torch.zeros(2, 4, 3), r"got one tensor. Use \[batch\]"),
        ({"input_ids": torch.ones(2, 4)}, r"got one dictionary. Use \[batch\]"),
        ("pages.txt", "got str"),
        (7, "got int"),
        ([], "it is empty"),
        ([["a"]], "batch 0 is a str"),
        ([(torch.zeros(2, 4), torch.zeros(2))], "batch 0 is a tuple"),
        ([{"input_ids": [[1, 2]]}], "holds input_ids"),
        ([{"input_ids": torch.ones(2, 4), "x": [1]}], "`x` of batch 0 is a list"),
        ([{}], "it holds nothing|holds nothing"),
        ([torch.zeros(4)], r"has shape \[4\]"),
        ([torch.zeros(2, 0, 3)], r"at least one token; batch 0 has shape \[2, 0, 3\]"),
        (
            [{"input_ids": torch.ones(2, 4), "attention_mask": torch.tensor([[1, 1, 0, 0], [0, 0, 0, 0]])}],
            "a row of batch 0 is all padding",
        ),
    ],
)
def test_what_is_no_list_of_batches_is_refused(batches: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_batches(batches)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"wrong_name": torch.ones(2, 70)}, "has no input `wrong_name`. It takes input_ids"),
        ({"input_ids": torch.full((2, 70), 64)}, "must accept the batches.*index out of range"),
        ({"input_ids": torch.ones(2, 70)}, "must accept the batches.*input_ids float32"),
    ],
)
def test_what_the_model_does_not_take_leaves_it_as_it_was(change: dict[str, Any], message: str) -> None:
    model, batch = tiny("bert")
    with torch.no_grad():
        before, implementation = run_model(model, batch), model.config._attn_implementation
        with pytest.raises(InputError, match=message):
            sparsify(model, [{**batch, **change}], density=0.5, block_size=8)
        assert torch.equal(run_model(model, batch), before)
    assert model.config._attn_implementation == implementation
    assert not hasattr(model.config, "edgesparse") and not dropin_layers(model)


def test_a_failed_sparsify_gives_back_the_layers_that_were_there() -> None:
    model, batch = tiny("bert")
    sharpen(model)
    sparsify(model, [batch], density=0.4, block_size=8)
    with torch.no_grad():
        before = run_model(model, batch)
        with pytest.raises(InputError, match="has no input `wrong`"):
            sparsify(model, [{"wrong": batch["input_ids"]}], density=0.5, block_size=16)
        assert torch.equal(run_model(model, batch), before)


def test_a_failed_sparsify_leaves_a_pytorch_model_as_it_was() -> None:
    torch.manual_seed(0)
    model, x = nn.Sequential(OwnAttention()).eval(), torch.randn(2, 40, 32)
    with torch.no_grad():
        before = model(x)
        with pytest.raises(InputError, match="must accept the batches"):
            sparsify(model, [torch.randn(2, 40, 31)], density=0.5, block_size=8)
        assert torch.equal(model(x), before)
    assert len(model) == 1 and not model._forward_hooks and not model._forward_pre_hooks


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"density": 7}, "`density` must go with `batches`"),
        ({"fidelity": 0.9}, "`fidelity` must go with `batches`"),
        ({"distill_steps": 3}, "`distill_steps` must go with `batches`"),
        ({"block_size": 1.5}, "`block_size` must be a whole number; got 1.5"),
    ],
)
def test_options_that_would_do_nothing_are_refused(options: dict[str, Any], message: str) -> None:
    model, _ = tiny("bert")
    with pytest.raises(InputError, match=message):
        sparsify(model, **options)
    assert model.config._attn_implementation != "edgesparse"


@pytest.mark.parametrize("options", [{"density": 0.25}, {"fidelity": 0.5}])
def test_inputs_of_one_block_are_refused(options: dict[str, float]) -> None:
    model, batch = tiny("bert", tokens=30)
    with pytest.raises(InputError, match="longer than one block of 32 tokens"):
        sparsify(model, [batch], **options)
    assert model.config._attn_implementation != "edgesparse"


def test_a_density_out_of_reach_names_the_least() -> None:
    model, batch = tiny("bert")
    batch.pop("attention_mask")
    # Five blocks of 16: the own block of each is a fifth.
    with pytest.raises(InputError, match=r"`density` must be at least 0.2 on these batches.*got 0.1"):
        sparsify(model, [batch], density=0.1, block_size=16)
    sparsify(model, [batch], density=0.2, block_size=16)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_models_that_are_not_float32_are_refused(dtype: torch.dtype) -> None:
    for model in (tiny("bert")[0].to(dtype), nn.Sequential(OwnAttention()).to(dtype)):
        with pytest.raises(InputError, match=rf"must be in float32; got {str(dtype)[6:]}. Call"):
            sparsify(model)


def test_half_precision_after_sparsify_is_refused() -> None:
    model, batch = tiny("bert")
    sparsify(model, block_size=8)
    with torch.no_grad(), pytest.raises(InputError, match="must get float32; got bfloat16"):
        run_model(model.bfloat16(), batch)
