"""Sparse models saved and loaded: never dense without a word."""

from __future__ import annotations

import copy
import io
import pickle
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from edgesparse.dropin import dropin_layers, from_pretrained, load_layers, save_layers
from edgesparse.dropin.outputs import run_model
from edgesparse.dropin.sparsify import sparsify
from edgesparse_runtime.errors import InputError
from tests.edgesparse.dropin.tiny_models import OwnAttention, sharpen, tiny

transformers = pytest.importorskip("transformers", reason="needs pip install 'edgesparse[dropin]'")


@pytest.mark.parametrize(("kind", "loader"), [("bert", "AutoModel"), ("llama", "AutoModelForCausalLM")])
def test_a_saved_model_comes_back_sparse_in_one_call(kind: str, loader: str, tmp_path: Path) -> None:
    model, batch = tiny(kind)
    sharpen(model)
    sparsify(model, [batch], density=0.4, block_size=8)
    model.save_pretrained(tmp_path)
    loaded = from_pretrained(getattr(transformers, loader), tmp_path)
    with torch.no_grad():
        expected, actual = run_model(model, batch), run_model(loaded, batch)
    assert torch.equal(actual, expected)
    assert len(dropin_layers(loaded)) == 2
    # And it can be saved again.
    loaded.save_pretrained(tmp_path / "again")
    again = from_pretrained(getattr(transformers, loader), tmp_path / "again")
    with torch.no_grad():
        assert torch.equal(run_model(again, batch), expected)


@pytest.mark.parametrize("options", [{}, {"attn_implementation": "edgesparse"}])
def test_a_model_loaded_without_its_layers_refuses_to_run(options: dict[str, str], tmp_path: Path) -> None:
    model, batch = tiny("bert")
    sparsify(model, [batch], density=0.4, block_size=8)
    model.save_pretrained(tmp_path)
    loaded = transformers.AutoModel.from_pretrained(tmp_path, **options).eval()
    with torch.no_grad(), pytest.raises(InputError, match=r"must have its sparse layer.*load_layers"):
        run_model(loaded, batch)
    load_layers(loaded, tmp_path)
    with torch.no_grad():
        assert torch.equal(run_model(loaded, batch), run_model(model, batch))


def test_layers_go_through_a_file_into_a_model_that_never_ran(tmp_path: Path) -> None:
    path = tmp_path / "layers.safetensors"
    model, batch = tiny("bert")
    twin = copy.deepcopy(model)
    sparsify(model, [batch], density=0.4, block_size=8)
    save_layers(model, str(path))
    assert load_layers(twin, path) is twin
    with torch.no_grad():
        torch.testing.assert_close(run_model(twin, batch), run_model(model, batch))
    other, inputs = tiny("vit")
    with torch.no_grad():
        before = run_model(other, inputs)
        with pytest.raises(InputError, match="belongs to another model"):
            load_layers(other, path)
        assert torch.equal(run_model(other, inputs), before)


def test_layers_find_their_model_inside_a_larger_one(tmp_path: Path) -> None:
    model, batch = tiny("bert")
    sparsify(model, [batch], density=0.4, block_size=8)
    model.save_pretrained(tmp_path)
    classifier = from_pretrained(transformers.BertForSequenceClassification, tmp_path)
    assert len(dropin_layers(classifier)) == 2
    with torch.no_grad():
        actual = classifier.bert(**batch).last_hidden_state
        torch.testing.assert_close(actual, run_model(model, batch))


def test_files_that_hold_no_layers_are_refused(tmp_path: Path) -> None:
    model, batch = tiny("bert")
    model.save_pretrained(tmp_path / "dense")
    (tmp_path / "damaged.safetensors").write_bytes(b"no tensors")
    for name, message in [
        ("absent", "no such file or folder"),
        ("dense", "it holds no sparse layers"),
        ("damaged.safetensors", "must be whole safetensors"),
        ("dense/model.safetensors", "it names no rule"),
    ]:
        with pytest.raises(InputError, match=message):
            load_layers(model, tmp_path / name)
    assert model.config._attn_implementation != "edgesparse"
    with torch.no_grad():
        run_model(model, batch)


def pytorch_model() -> tuple[nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    model, x = nn.Sequential(OwnAttention(), OwnAttention()).eval(), torch.randn(2, 70, 32)
    return model, x


def test_a_pytorch_model_is_pickled_copied_and_saved_whole() -> None:
    model, x = pytorch_model()
    sparsify(model, [x], density=0.4, block_size=8)
    stream = io.BytesIO()
    torch.save(model, stream)
    stream.seek(0)
    twins = [pickle.loads(pickle.dumps(model)), copy.deepcopy(model), torch.load(stream, weights_only=False)]
    with torch.no_grad():
        expected = model(x)
        for twin in twins:
            assert torch.equal(twin(x), expected)
            assert len(dropin_layers(twin)) == 2


def test_a_state_dict_goes_into_a_model_that_never_ran(tmp_path: Path) -> None:
    model, x = pytorch_model()
    fresh, other = copy.deepcopy(model), copy.deepcopy(model)
    sparsify(model, [x], density=0.4, block_size=8)
    sparsify(fresh, block_size=8)
    fresh.load_state_dict(model.state_dict())
    save_layers(model, tmp_path / "layers.safetensors")
    load_layers(other, tmp_path / "layers.safetensors")
    with torch.no_grad():
        assert torch.equal(fresh(x), model(x))
        assert torch.equal(other(x), model(x))


def test_layers_stored_without_their_sizes_are_read(tmp_path: Path) -> None:
    model, batch = tiny("llama", tokens=100)
    sharpen(model)
    sparsify(model, [batch], density=0.6, block_size=16)
    expected = run_model(model, batch)
    save_layers(model, tmp_path / "new.safetensors")
    with safe_open(tmp_path / "new.safetensors", framework="pt") as file:
        kept = {name: file.get_tensor(name) for name in file.keys() if not name.endswith(".sizes")}  # noqa: SIM118
        metadata = file.metadata()
    save_file(kept, tmp_path / "old.safetensors", metadata=metadata)
    other = tiny("llama", tokens=100)[0]
    sharpen(other)
    assert torch.equal(run_model(load_layers(other, tmp_path / "old.safetensors"), batch), expected)
