"""Models whose attention is partly or wholly of another kind: what is sparse, stays dense, is refused."""

from __future__ import annotations

from typing import Any

import onnx_ir
import onnxruntime
import pytest
import torch

from edgesparse.dropin import attach_pytorch, calibrate, dropin_layers
from edgesparse.dropin.outputs import cosine, run_model
from edgesparse.dropin.sparsify import sparsify
from edgesparse_export.dropin.program import dropin_to_onnx
from edgesparse_runtime.errors import InputError
from tests.edgesparse.dropin.tiny_models import tiny

t = pytest.importorskip("transformers", reason="needs pip install 'edgesparse[dropin]'")


def modern_bert(*, global_every: int) -> Any:
    torch.manual_seed(0)
    config = t.ModernBertConfig(
        vocab_size=64, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48,
        global_attn_every_n_layers=global_every, local_attention=16, max_position_embeddings=256,
        pad_token_id=0, bos_token_id=1, eos_token_id=2, cls_token_id=1, sep_token_id=2,
    )  # fmt: skip
    return t.ModernBertModel(config).eval()


def modern_mistral() -> Any:
    torch.manual_seed(0)
    config = t.MistralConfig(
        vocab_size=64, hidden_size=32, num_hidden_layers=1, num_attention_heads=4, num_key_value_heads=2,
        intermediate_size=48, sliding_window=8,
    )  # fmt: skip
    return t.MistralForCausalLM(config).eval()


def padded() -> dict[str, torch.Tensor]:
    mask = torch.ones(2, 96, dtype=torch.int64)
    mask[1, 70:] = 0
    return {"input_ids": torch.randint(3, 60, (2, 96)), "attention_mask": mask}


@pytest.mark.parametrize(("global_every", "count"), [(1, 2), (2, 1)])
def test_modern_bert_is_sparse_in_its_global_layers(global_every: int, count: int) -> None:
    model, batch = modern_bert(global_every=global_every), padded()
    with torch.no_grad():
        dense = run_model(model, batch)
        sparsify(model, block_size=8)
        everything = run_model(model, batch)
    real = batch["attention_mask"].bool()
    torch.testing.assert_close(everything[real], dense[real], rtol=1e-4, atol=1e-5)
    assert len(dropin_layers(model)) == count
    found = calibrate(model, [batch, padded()], density=0.4)
    assert found.density < 0.5 and found.cosine > 0.8
    with torch.no_grad():
        assert cosine(run_model(model, batch), dense, real) < 1


def test_sliding_windows_are_exact_and_need_no_calibration() -> None:
    model = modern_mistral()
    for ids in (torch.arange(3, 33)[None], torch.arange(3, 9)[None]):
        with torch.no_grad():
            model.set_attn_implementation("sdpa")
            dense = model(ids).logits
            sparsify(model, block_size=8)
            torch.testing.assert_close(model(ids).logits, dense, rtol=1e-4, atol=1e-5)
    with pytest.raises(InputError, match=r"a pass over a batch met none. Sliding windows"):
        calibrate(model, [{"input_ids": torch.arange(3, 33)[None]}], density=0.5)


def test_packed_sequences_of_a_windowed_model_stay_apart() -> None:
    """transformers finds them in the positions; the mask is one of pairs then."""
    model = modern_mistral()
    ids, positions = torch.arange(3, 33)[None], torch.cat([torch.arange(18), torch.arange(12)])[None]
    with torch.no_grad():
        dense = model(ids, position_ids=positions).logits
        sparsify(model, block_size=8)
        torch.testing.assert_close(model(ids, position_ids=positions).logits, dense, rtol=1e-4, atol=1e-5)


def test_a_windowed_model_generates_what_it_did() -> None:
    model = modern_mistral()
    ids = torch.arange(3, 23)[None]
    expected = model.generate(ids, max_new_tokens=12, do_sample=False)
    sparsify(model, block_size=8)
    assert torch.equal(model.generate(ids, max_new_tokens=12, do_sample=False), expected)


def test_a_mask_that_says_nothing_of_its_window_is_refused() -> None:
    model = modern_bert(global_every=2)
    sparsify(model, block_size=8)
    local = model.layers[1].attn
    local.register_forward_pre_hook(
        lambda _, args, kwargs: (args, {**kwargs, "attention_mask": kwargs["attention_mask"].clone()}),
        with_kwargs=True,
    )
    with pytest.raises(InputError, match="must hand on the mask of its sliding window"):
        run_model(model, padded())


def test_a_windowed_model_is_exported_with_windows() -> None:
    """ModernBERT with both kinds of layers, and in the exact form; in plain onnxruntime and at any length."""
    model, batch = modern_bert(global_every=2), padded()
    sparsify(model, block_size=8)
    longer = {
        "input_ids": torch.randint(3, 60, (1, 200)), "attention_mask": torch.ones(1, 200, dtype=torch.int64),
    }  # fmt: skip
    for exact, kinds in ((False, ["SparseAttention", "WindowAttention"]), (True, ["WindowAttention"] * 2)):
        exported = dropin_to_onnx(model, batch, exact=exact)
        assert sorted(x.op_type for x in exported.graph if x.domain == "edgesparse") == kinds
        content = onnx_ir.to_proto(exported).SerializeToString()
        session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
        for given in (batch, longer):
            with torch.no_grad():
                expected = run_model(model, given)
            found = session.run(["scores"], {name: x.numpy() for name, x in given.items()})[0]
            real = given["attention_mask"].bool()
            torch.testing.assert_close(torch.tensor(found)[real], expected[real], rtol=1e-4, atol=1e-5)


def test_a_family_that_computes_its_own_attention_is_refused_with_a_cure_that_works() -> None:
    model = t.MPNetModel(
        t.MPNetConfig(
            vocab_size=64, hidden_size=32, num_hidden_layers=1, num_attention_heads=4, intermediate_size=48
        )
    )
    with pytest.raises(InputError, match=r"it computes its own.*Use a model of another family: BERT"):
        sparsify(model.eval())


def test_the_other_route_takes_a_model_of_transformers_with_default_rule() -> None:
    model, batch = tiny("bert")
    model.set_attn_implementation("sdpa")
    attach_pytorch(model)
    # Of three blocks of 32 tokens and two rows, whole ones are counted.
    assert 0.6 < calibrate(model, [batch, batch], density=0.8).density < 0.95
    assert dropin_layers(model)[0].rule.block_size == 32


def test_weights_of_attention_are_refused() -> None:
    model, batch = tiny("bert")
    sparsify(model, block_size=8)
    with pytest.raises(InputError, match=r"`output_attentions` must be left out.*'eager'"):
        model(**batch, output_attentions=True)
    assert model(**batch, output_attentions=False).last_hidden_state.shape == (2, 70, 32)
