"""Causal language models whole: a prompt read sparsely, answers written over a cache, in one file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from typer.testing import CliRunner

from edgesparse.dropin.layers import attention_mode, dropin_layers
from edgesparse.dropin.sparsify import sparsify
from edgesparse_export.dropin.decoder_bundle import model_writes
from edgesparse_export.dropin.decoder_program import decoder_to_onnx, writes_text
from edgesparse_export.dropin.huggingface_folder import export_folder, load_folder
from edgesparse_export.dropin.texts import cut_prompts, load_tokenizer
from edgesparse_export.quantize.bundle import quantize_bundle
from edgesparse_runtime.bundle.read import open_bundle
from edgesparse_runtime.cli.app import app
from edgesparse_runtime.data.tensors.batch import golden_inputs
from edgesparse_runtime.data.tensors.generation import Generator, next_tokens
from edgesparse_runtime.errors import InputError
from edgesparse_runtime.evaluation.verify import _check_written, verify_path
from edgesparse_runtime.session import Session
from tests.edgesparse.dropin.tiny_models import sharpen

t = pytest.importorskip("transformers", reason="needs pip install 'edgesparse[dropin]'")
pytest.importorskip("tokenizers", reason="needs pip install 'edgesparse[text]'")

TEXT = "The pump runs hot when the valve sticks. Why does the bearing fail? Oil runs low, noise gets loud. "
END = 0


def make_tokenizer() -> Any:
    """Bytes as tokens behind an end token: every text is known, and one character can be several tokens."""
    import tokenizers

    letters = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {"<end>": END, **{letter: i + 1 for i, letter in enumerate(letters)}}
    made = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=vocabulary, merges=[]))
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = tokenizers.decoders.ByteLevel()
    return made


def make_folder(folder: Path, *, positions: int = 512) -> Path:
    """A folder of a tiny Llama with grouped heads."""
    torch.manual_seed(0)
    model = t.LlamaForCausalLM(
        t.LlamaConfig(
            vocab_size=257, hidden_size=48, num_hidden_layers=2, num_attention_heads=6, num_key_value_heads=2,
            intermediate_size=64, max_position_embeddings=positions, eos_token_id=END, bos_token_id=None,
        )
    )  # fmt: skip
    sharpen(model)
    model.save_pretrained(folder)
    t.PreTrainedTokenizerFast(
        tokenizer_object=make_tokenizer(), eos_token="<end>", model_max_length=positions
    ).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="module")
def bundle(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    work = tmp_path_factory.mktemp("decoder")
    (work / "pages.txt").write_text("\n".join(TEXT[i:] + TEXT for i in range(12)))
    out = work / "llama.edgesparse"
    made = export_folder(folder, work / "pages.txt", out, density=0.4, block_size=16, tokens=256)
    assert made.parity.holds and made.parity.decisions_flipped == 0
    assert made.parity.selection_overlap == 1.0
    return out


@pytest.fixture(scope="module")
def sparse_model(folder: Path) -> Any:
    """The model with layers that drop blocks."""
    model = load_folder(folder)
    sparsify(model, block_size=16)
    ids = torch.tensor([load_tokenizer(folder)(TEXT)["input_ids"]])
    with torch.no_grad():
        model(ids)
    for layer in dropin_layers(model):
        layer.top_p.fill_(0.5)
    return model


@pytest.fixture(scope="module")
def content(sparse_model: Any) -> bytes:
    found: bytes = ir.to_proto(decoder_to_onnx(sparse_model)).SerializeToString()
    return found


@pytest.mark.parametrize("engine", ["body", "native"])
@pytest.mark.parametrize("length", [1, 15, 16, 17, 64, 99])
def test_prompt_and_steps_equal_torch(sparse_model: Any, content: bytes, engine: str, length: int) -> None:
    session = Session("llama.onnx", content=content, engine=engine)
    ids = torch.tensor([[(7 * i) % 250 + 1 for i in range(length)]])
    written, first, selections = model_writes(sparse_model, ids, 6)
    np.testing.assert_allclose(session.predict({"input_ids": ids.numpy()})[0], first, atol=1e-4, rtol=1e-4)
    for ours, theirs in zip(session.selections({"input_ids": ids.numpy()}), selections, strict=True):
        assert (ours == theirs).all()
    assert list(next_tokens(session, ids[0].tolist(), 6)) == written.tolist()


def test_the_prompt_is_read_sparsely_and_steps_are_dense(sparse_model: Any, content: bytes) -> None:
    session = Session("llama.onnx", content=content)
    ids = np.arange(1, 97)[None]
    assert 0 < np.mean([x.mean() for x in session.selections({"input_ids": ids})]) < 0.45
    with attention_mode(sparse_model, "dense"):
        dense = sparse_model(torch.from_numpy(ids)).logits[0, -1].numpy()
    assert np.abs(session.predict({"input_ids": ids})[0] - dense).max() > 1e-3
    # Every block kept: the dense model.
    whole = Session("llama.onnx", content=content, top_p=1.0, max_blocks=1 << 30)
    np.testing.assert_allclose(whole.predict({"input_ids": ids})[0], dense, atol=1e-4, rtol=1e-4)


def test_with_every_block_kept_the_text_is_that_of_transformers(bundle: Path, folder: Path) -> None:
    session = Session(bundle, top_p=1.0, max_blocks=1 << 30)
    tokenizer, model = load_tokenizer(folder), t.AutoModelForCausalLM.from_pretrained(folder)
    for prompt in (TEXT, "a", "Ünïcode 数字", TEXT * 3):
        given = tokenizer(prompt, return_tensors="pt")
        written = model.generate(**given, max_new_tokens=24, do_sample=False)
        found = written[0, given.input_ids.shape[1] :]
        expected = tokenizer.decode(found, skip_special_tokens=True)
        parts: list[str] = []
        assert session.generate(prompt, max_tokens=24, show=parts.append) == expected
        assert "".join(parts) == expected


def test_weights_are_in_the_file_once(sparse_model: Any, content: bytes) -> None:
    model = onnx.load_from_string(content)
    held = sum(int(np.prod(x.dims)) for x in model.graph.initializer)
    # Routers come on top; the head is not tied here.
    assert held < 1.3 * sum(p.numel() for p in sparse_model.parameters())
    assert not any(node.op_type in ("Loop", "Scan") for node in model.graph.node)
    branches = [node for node in model.graph.node if node.op_type == "If"]
    assert len(branches) == 2
    # The router is computed for prompts only.
    outside = [node.op_type for node in model.graph.node]
    assert "ReduceMax" not in outside


def test_verify_compares_the_written_tokens(bundle: Path) -> None:
    checks = verify_path(bundle)
    assert all(check.holds for check in checks)
    assert next(c.detail for c in checks if c.boundary == "float32 written tokens").startswith("8 of 8")


def test_the_last_position_ends_an_answer(bundle: Path) -> None:
    session = Session(bundle)
    text = "a" * 509
    generator = Generator(session)
    ids = generator.encode(text)
    wanted = list(next_tokens(session, ids, 3))
    assert END not in wanted
    assert list(generator.tokens(ids, 50)) == wanted


def test_a_stop_token_ends_an_answer(bundle: Path) -> None:
    session = Session(bundle)
    generator = Generator(session)
    ids = generator.encode(TEXT)
    wanted = list(next_tokens(session, ids, 8))
    last = next(i for i, token in enumerate(wanted) if token not in wanted[:i] and i > 0)
    generator.stop_ids = frozenset([wanted[last]])
    assert list(generator.tokens(ids, 8)) == wanted[:last]


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("", {}, "`text` must have at least one token; it is empty."),
        (
            "a" * 512,
            {},
            "`text` must leave room for an answer in the model's 512 positions; it has 512 tokens.",
        ),
        ("a", {"max_tokens": 0}, "`max_tokens` must be a whole number of at least 1; got 0."),
        ("a", {"max_tokens": 2.5}, "`max_tokens` must be a whole number of at least 1; got 2.5."),
        ("a", {"max_tokens": "5"}, "`max_tokens` must be a whole number of at least 1; got '5'."),
        (7, {}, "`text` must be a text; got 7."),
        (None, {}, "`text` must be a text; got None."),
    ],
)
def test_what_cannot_be_written_is_refused(bundle: Path, text: Any, options: Any, message: str) -> None:
    with pytest.raises(InputError) as caught:
        Session(bundle).generate(text, **options)
    assert message in str(caught.value)


def test_models_without_a_cache_do_not_write(bundle: Path) -> None:
    with pytest.raises(InputError, match=r"model\.onnx must be a language model with its tokenizer"):
        Session(bundle / "model.onnx").generate("a")


def test_a_language_model_embeds_nothing(bundle: Path) -> None:
    with pytest.raises(InputError, match=r"is a language model, which writes them \(`Session.generate`\)"):
        Session(bundle).embed(["a"])


def test_a_file_that_takes_no_cache_is_to_blame_itself(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = Session(bundle)
    known = session._model.session.get_overridable_initializers()
    others = [x for x in known if x.name != "past_value.1"]
    monkeypatch.setattr(session._model.session, "get_overridable_initializers", lambda: others)
    with pytest.raises(InputError, match=r"must take the keys and values .* it has no input `past_value\.1`"):
        session.generate("The pump", max_tokens=2)


def test_run_writes_answers(bundle: Path, tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("The pump\nWhy\n")
    runner, session = CliRunner(), Session(bundle)
    expected = [session.generate(x, max_tokens=5) for x in ("The pump", "Why")]
    shown = runner.invoke(app, ["run", str(bundle), str(prompts), "--max-tokens", "5", "--json"])
    assert [row["text"] for row in json.loads(shown.stdout)["predictions"]] == expected
    refused = runner.invoke(app, ["run", str(bundle), str(prompts), "--max-tokens", "0"])
    # What the command prints as one line, with exit code 2.
    assert isinstance(refused.exception, InputError) and not refused.stdout
    assert str(refused.exception) == "`--max-tokens` must be at least 1; got 0."


def test_a_prompt_that_is_too_long_is_refused_before_any_answer(bundle: Path, tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text(f"The pump\n{'a' * 600}\n")
    refused = CliRunner().invoke(app, ["run", str(bundle), str(prompts), "--max-tokens", "5"])
    assert isinstance(refused.exception, InputError) and not refused.stdout
    assert "prompts.txt, 2: `text` must leave room for an answer" in str(refused.exception)


def test_the_golden_prompt_leaves_room_for_what_is_written(tmp_path: Path) -> None:
    """Learned positions end: a model with them fails where one with rotary positions goes on."""
    folder = make_folder(tmp_path / "short", positions=128)
    (tmp_path / "pages.txt").write_text("\n".join(TEXT[i:] + TEXT for i in range(12)))
    out = tmp_path / "short.edgesparse"
    export_folder(folder, tmp_path / "pages.txt", out, density=0.4, block_size=16, tokens=128)
    golden = open_bundle(out).golden()
    (prompt,) = [x for name, x in golden.items() if name.endswith("input_ids")]
    assert prompt.shape[1] == 128 - len(golden["generated_float32"]) == 120


def test_verify_wants_written_tokens(bundle: Path) -> None:
    session, golden = Session(bundle), open_bundle(bundle).golden()
    inputs = golden_inputs(golden)
    assert inputs is not None
    assert _check_written(session, golden, inputs).holds
    for wrong in (np.zeros(0, np.int64), np.array(3), np.zeros(4, np.float32), np.zeros(1 << 20, np.int64)):
        assert not _check_written(session, {**golden, "generated_float32": wrong}, inputs).holds


def test_scores_that_are_no_numbers_are_no_text(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = Session(bundle)
    monkeypatch.setattr(
        "edgesparse_runtime.data.tensors.generation.np.isfinite", lambda x: np.zeros(np.shape(x), bool)
    )
    with pytest.raises(InputError, match="must give numbers as scores"):
        session.generate("The pump", max_tokens=2)


def test_prompts_are_cut_from_documents_behind_one_another(folder: Path) -> None:
    tokenizer = load_tokenizer(folder)
    found = cut_prompts(tokenizer, ["abc", "de"], 3)
    assert found.shape == (2, 3)
    assert found.flatten().tolist() == (tokenizer("abc")["input_ids"] + [END] + tokenizer("de")["input_ids"])
    assert cut_prompts(tokenizer, ["abc", "de"], 100).shape == (2, 3)


def test_which_models_write_text(folder: Path) -> None:
    assert writes_text(load_folder(folder))
    assert not writes_text(load_folder(folder, is_plain=True))
    small = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
    windowed = t.MistralForCausalLM(
        t.MistralConfig(vocab_size=64, num_key_value_heads=2, sliding_window=8, **small)
    )
    assert not writes_text(windowed)


def test_with_dense_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "pages.txt").write_text(f"{TEXT}\n{TEXT}\n")
    with pytest.raises(InputError, match="`--with-dense` is for models that do not write text"):
        export_folder(folder, tmp_path / "pages.txt", tmp_path / "x.edgesparse", density=0.5, with_dense=True)


def test_language_models_are_not_quantized(bundle: Path) -> None:
    with pytest.raises(InputError, match=r"llama\.edgesparse must not be a language model"):
        quantize_bundle(open_bundle(bundle))
