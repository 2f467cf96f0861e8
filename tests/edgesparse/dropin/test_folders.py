"""Model folders as they come: half precision, many files, tied weights, adapters."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgesparse_export.dropin.huggingface_folder import load_folder, read_batches
from edgesparse_runtime.errors import InputError
from tests.edgesparse.dropin.tiny_models import tiny
from tests.edgesparse.dropin.tiny_sentences import make_sentence_folder, sentences

t = pytest.importorskip("transformers", reason="needs pip install 'edgesparse[dropin]'")


def tied_llama() -> Any:
    torch.manual_seed(0)
    config = t.LlamaConfig(
        vocab_size=64, hidden_size=32, num_hidden_layers=1, num_attention_heads=4, num_key_value_heads=2,
        intermediate_size=48, tie_word_embeddings=True,
    )  # fmt: skip
    return t.LlamaForCausalLM(config).eval()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_weights_in_half_precision_are_computed_in_float32(dtype: torch.dtype, tmp_path: Path) -> None:
    model, batch = tiny("bert")
    model.to(dtype).save_pretrained(tmp_path)
    loaded = load_folder(tmp_path)
    assert {p.dtype for p in loaded.parameters()} == {torch.float32}
    with torch.no_grad():
        expected = model.float()(**batch).last_hidden_state
        torch.testing.assert_close(loaded(**batch).last_hidden_state, expected)


def test_weights_in_many_files_and_tied_weights_load(tmp_path: Path) -> None:
    model = tied_llama()
    model.save_pretrained(tmp_path, max_shard_size="8KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 2
    ids = torch.randint(0, 64, (2, 9))
    with torch.no_grad():
        torch.testing.assert_close(load_folder(tmp_path)(ids).logits, model(ids).logits)
    # One of many files that is not there is a sentence, not random weights.
    sorted(tmp_path.glob("*.safetensors"))[0].unlink()
    with pytest.raises(InputError, match="must hold a model as safetensors"):
        load_folder(tmp_path)


# Of peft itself.
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_an_adapter_is_refused_until_it_is_merged(tmp_path: Path) -> None:
    model, batch = tiny("bert")
    model.save_pretrained(tmp_path / "base")
    (tmp_path / "base" / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA"}))
    with pytest.raises(InputError, match=r"holds an adapter of PEFT. Merge it first: model.merge_and_unload"):
        load_folder(tmp_path / "base")
    peft = pytest.importorskip("peft", reason="needs pip install peft")
    lora = peft.LoraConfig(r=2, target_modules=["query"], init_lora_weights=False)
    adapted = peft.get_peft_model(model, lora).eval()
    with torch.no_grad():
        expected = adapted(**batch).last_hidden_state
        adapted.merge_and_unload().save_pretrained(tmp_path / "merged")
        actual = load_folder(tmp_path / "merged")(**batch).last_hidden_state
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)


def test_text_is_padded_on_the_right_whatever_the_tokenizer_says(tmp_path: Path) -> None:
    folder = make_sentence_folder(tmp_path / "m")
    config = folder / "tokenizer_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "padding_side": "left"}))
    (tmp_path / "a.txt").write_text("\n".join([*sentences(1, 9), *sentences(1, 5)]))
    (batch,) = read_batches(folder, load_folder(folder), tmp_path / "a.txt", tokens=None, batch_size=2)
    assert batch["attention_mask"].tolist() == [[1] * 11, [1] * 7 + [0] * 4]  # type: ignore[index]


def test_no_text_is_longer_than_the_positions(tmp_path: Path) -> None:
    """RoBERTa's table counts from behind the padding id; its configuration says two too many."""
    model, _ = tiny("roberta")
    make_sentence_folder(tmp_path)
    tokenizer = t.AutoTokenizer.from_pretrained(tmp_path, model_max_length=10_000)
    tokenizer.save_pretrained(tmp_path)
    (tmp_path / "a.txt").write_text("\n".join(sentences(2, 300)))
    (batch,) = read_batches(tmp_path, model, tmp_path / "a.txt", tokens=None, batch_size=2)
    assert np.shape(batch["input_ids"]) == (2, 126)  # type: ignore[index]
