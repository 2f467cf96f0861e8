"""sentence-transformers folders: text in, embedding out, through Python and the command line."""

from __future__ import annotations

import builtins
import csv
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

from edgesparse_export.dropin.sentence_encoder import pool
from edgesparse_export.dropin.sentence_folder import read_sentence_folder
from edgesparse_runtime.bundle.read import Bundle, open_bundle
from edgesparse_runtime.cli.app import run
from edgesparse_runtime.data.tensors.embedding import TruncatedTextWarning
from edgesparse_runtime.data.tensors.text import Tokenizer
from edgesparse_runtime.errors import BundleError, InputError, MissingExtraError
from edgesparse_runtime.evaluation.verify import verify
from edgesparse_runtime.session import Session
from tests.edgesparse.dropin.tiny_sentences import (
    BUNDLE,
    MAX_TOKENS,
    PROMPTS,
    example,
    make_sentence_folder,
    sentences,
    write,
)
from tests.support.tolerances import DROPIN_OF_LARGEST

pytest.importorskip("transformers", reason="needs pip install 'edgesparse[dropin]'")
pytest.importorskip("tokenizers", reason="needs pip install 'edgesparse[text]'")

# Of one to eleven blocks of 8 tokens.
TEXTS = ["", *sentences(3, 5), *sentences(2, 60, seed=1), "Pump is HOT", *sentences(2, 75, seed=2)]


@pytest.fixture(scope="module")
def session(exported: Path) -> Session:
    return Session(exported / BUNDLE, precision="float32", threads=1)


def assert_near(actual: np.ndarray, expected: np.ndarray) -> None:
    largest = np.abs(expected).max(-1, keepdims=True)
    allowed = DROPIN_OF_LARGEST.relative * largest + DROPIN_OF_LARGEST.absolute
    assert (np.abs(actual - expected) <= allowed).all()


def by_transformers(folder: Path, texts: list[str], tokens: int = MAX_TOKENS) -> np.ndarray:
    """Mean of states over real tokens, normalized, of the dense model in PyTorch."""
    import transformers as t

    tokenizer = t.AutoTokenizer.from_pretrained(folder)
    batch = tokenizer(texts, padding=True, truncation=True, max_length=tokens, return_tensors="pt")
    with torch.no_grad():
        states = t.AutoModel.from_pretrained(folder).eval()(**batch).last_hidden_state
    mask = batch["attention_mask"][..., None]
    mean = (states * mask).sum(1) / mask.sum(1)
    return torch.nn.functional.normalize(mean, dim=-1).numpy()


def test_with_every_block_kept_embeddings_are_those_of_the_dense_model(exported: Path) -> None:
    everything = Session(exported / BUNDLE, precision="float32", top_p=1.0, max_blocks=1000)
    assert_near(everything.embed(TEXTS), by_transformers(exported / "minilm", TEXTS))


def test_sparse_embeddings_are_near(session: Session, exported: Path) -> None:
    near = (session.embed(TEXTS) * by_transformers(exported / "minilm", TEXTS)).sum(-1)
    assert near.min() > 0.99 and near.min() < 0.99999


def test_sentence_transformers_gives_the_same(exported: Path) -> None:
    library = pytest.importorskip("sentence_transformers", reason="needs pip install sentence-transformers")
    everything = Session(exported / BUNDLE, precision="float32", top_p=1.0, max_blocks=1000)
    model = library.SentenceTransformer(str(exported / "minilm"), device="cpu")
    assert_near(everything.embed(TEXTS), model.encode(TEXTS))
    assert_near(everything.embed(TEXTS, prompt="query"), model.encode(TEXTS, prompt_name="query"))


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_an_answer_does_not_depend_on_the_texts_beside_it(exported: Path, precision: str) -> None:
    model = Session(exported / BUNDLE, threads=1, precision=precision)
    alone = np.concatenate([model.embed([text]) for text in TEXTS])
    assert_near(model.embed(TEXTS), alone)
    assert_near(model.embed(TEXTS, batch_size=2), alone)


def test_only_texts_of_as_many_blocks_share_a_run(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the calibrated length the cap on blocks grows with the padded length; int8 scales over a run."""
    runs: list[tuple[int, int]] = []
    predict = Session.predict

    def count(self: Session, data: Any, **options: Any) -> Any:
        runs.append(data.arrays["input_ids"].shape)
        return predict(self, data, **options)

    monkeypatch.setattr(Session, "predict", count)
    # 3, 7 and 8 tokens are one block of 8, 9 and 16 are two.
    texts = [sentences(1, n - 2)[0] for n in (7, 16, 3, 9, 8)]
    Session(exported / BUNDLE, threads=1, precision="float32").embed(texts)
    assert runs == [(2, 16), (3, 8)]
    runs.clear()
    Session(exported / BUNDLE, threads=1, precision="int8").embed(texts)
    assert runs == [(1, 16), (1, 9), (1, 8), (1, 7), (1, 3)]


def test_truncation_is_said(session: Session, exported: Path, recwarn: pytest.WarningsRecorder) -> None:
    fits = sentences(1, MAX_TOKENS - 2)
    session.embed(fits)
    assert not recwarn.list
    with pytest.warns(TruncatedTextWarning, match=r"1 of 2 texts truncated to 96 tokens \(the first: text 2"):
        found = session.embed([*fits, fits[0] + " pump valve"])
    assert_near(found[1], found[0])


def test_prompts_go_before_each_text(session: Session) -> None:
    assert_near(session.embed(["pump"], prompt="query"), session.embed(["the query is\npump"]))
    with pytest.raises(InputError, match=r"`prompt` must be the name of a prompt of the model \(query\)"):
        session.embed(["pump"], prompt="passage")


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ("pump", r"got one text. Use \[text\]"),
        (None, "got NoneType"),
        (["pump", 3], "text 2 is a int"),
        (["a\ud800"], "Text 1 must be valid Unicode"),
    ],
)
def test_what_is_no_list_of_texts_is_refused(session: Session, texts: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        session.embed(texts)


def test_no_texts_are_no_embeddings(session: Session) -> None:
    assert session.embed([]).shape == (0, 32)
    with pytest.raises(InputError, match="`batch_size` must be at least 1; got 0"):
        session.embed(["pump"], batch_size=0)


def test_without_the_package_one_line_names_the_extra(
    exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = builtins.__import__

    def refuse(name: str, *rest: Any, **more: Any) -> Any:
        if name == "tokenizers":
            raise ImportError(name)
        return load(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(MissingExtraError, match=r"needs tokenizers. .*pip install 'edgesparse\[text\]'"):
        Session(exported / BUNDLE, threads=1).embed(["pump"])


def test_a_model_without_a_tokenizer_is_told_what_to_do(bert_bundle: Bundle) -> None:
    with pytest.raises(InputError, match=r"holds no tokenizer. Export a sentence-transformers folder"):
        Session(bert_bundle, threads=1).embed(["pump"])


def test_a_damaged_tokenizer_is_a_damaged_bundle(exported: Path, tmp_path: Path) -> None:
    path = shutil.copytree(exported / BUNDLE, tmp_path / "x.edgesparse")
    (path / "tokenizer.json").write_text("{}")
    with pytest.raises(BundleError, match=r"tokenizer.json"):
        Session(path, threads=1)


def test_the_bundle_verifies_and_int8_is_gated_by_cosine(exported: Path) -> None:
    bundle = open_bundle(exported / BUNDLE)
    assert all(check.holds for check in verify(bundle))
    report = bundle.manifest["models"]["int8"]["report"]
    assert report["int8"] is not None and report["int8"]["name"] == "cosine to float32"
    assert report["int8"]["value"] > 0.99
    assert bundle.manifest["task"] == "embedding"
    facts = {"tokenizer": "tokenizer.json", "max_tokens": 96, "pad_id": 0, "pooling": "mean"}
    assert bundle.manifest["text"] == {**facts, "normalize": True, "prompts": "prompts.json"}


def test_plain_onnxruntime_reads_what_the_onnx_backend_of_sentence_transformers_reads(
    exported: Path, session: Session
) -> None:
    """Inputs by name, and `last_hidden_state`, which that backend pools by itself."""
    plain = onnxruntime.InferenceSession(exported / BUNDLE / "model.onnx")
    assert {x.name for x in plain.get_inputs()} == {"input_ids", "attention_mask"}
    tokenizer = Tokenizer(open_bundle(exported / BUNDLE))
    batch = tokenizer.batch(tokenizer.encode(sentences(2, 40)))
    (states,) = plain.run(["last_hidden_state"], batch.arrays)
    pooled = pool(torch.from_numpy(states), torch.from_numpy(batch.arrays["attention_mask"]), "mean")
    assert_near(torch.nn.functional.normalize(pooled).numpy(), session.embed(sentences(2, 40)))


def test_the_command_line_embeds_files(
    exported: Path, session: Session, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = sentences(2, 10)
    (tmp_path / "a.txt").write_text(f"{texts[0]}\n\n{texts[1]}\r\n" + " ".join(sentences(1, 120)) + "\n")
    (tmp_path / "b.jsonl").write_text(json.dumps({"id": "p7", "text": texts[0]}) + "\n")
    files = [str(tmp_path / "a.txt"), str(tmp_path / "b.jsonl")]
    bundle = str(exported / BUNDLE)
    float32 = ["--precision", "float32"]
    assert run(["run", bundle, *files, "--json", *float32]) == 0
    out, err = capsys.readouterr()
    rows = json.loads(out)["predictions"]
    assert [(r["series"], r["truncated"]) for r in rows] == [(1, False), (3, False), (4, True), ("p7", False)]
    assert f"{files[0]}: 1 of 3 texts truncated to 96 tokens (the first: text 3)" in err
    assert_near(np.array([r["embedding"] for r in rows[:2]]), session.embed(texts))
    assert run(["run", bundle, *files, "-o", str(tmp_path / "e.csv"), *float32]) == 0
    cells = list(csv.reader((tmp_path / "e.csv").read_text().splitlines()))
    assert cells[0][:5] == ["file", "series", "tokens", "truncated", "e0"] and len(cells) == 5
    assert_near(np.array(cells[4][4:], dtype=np.float32), session.embed(texts)[0])
    assert run(["run", bundle, files[1], "--prompt", "query"]) == 0
    assert capsys.readouterr().out.splitlines()[0].split()[-2:] == ["of", "32"]


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        ("", "a.txt", "must hold at least one text; it is empty"),
        ('{"txt": "a"}', "a.jsonl", 'line 1 must be a JSON object with a text, {"text": "..."}'),
        ("a,b\n1,2\n", "a.csv", "must be text, one per line (.txt, .text), or JSON lines"),
    ],
)
def test_files_without_texts_are_refused_in_one_line(
    content: str, name: str, message: str, exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).write_text(content)
    assert run(["run", str(exported / BUNDLE), str(tmp_path / name)]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


@pytest.mark.parametrize("pooling", ["cls", "max", "lasttoken", "mean"])
def test_pooling_is_that_of_sentence_transformers(pooling: str) -> None:
    library = pytest.importorskip("sentence_transformers", reason="needs pip install sentence-transformers")
    states, mask = torch.randn(3, 7, 5), torch.ones(3, 7, dtype=torch.int64)
    mask[1, 4:], mask[2, 1:] = 0, 0
    module = library.sentence_transformer.modules.Pooling(5, pooling)
    expected = module({"token_embeddings": states, "attention_mask": mask})["sentence_embedding"]
    torch.testing.assert_close(pool(states, mask, pooling), expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"pooling": "weightedmean_tokens"},
            "Pooling must be one of mean, cls, max, lasttoken; .*weightedmean",
        ),
        (
            {"modules": ("Dense",)},
            "it is Transformer, Pooling, Normalize, Dense. Export the transformer alone",
        ),
        ({"prompts": {"q": "x"}, "default_prompt": "p"}, "must be one of its prompts; got p"),
    ],
)
def test_folders_that_cannot_be_exported_are_refused(
    change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    folder = make_sentence_folder(tmp_path / "m", **change)
    with pytest.raises(InputError, match=message):
        read_sentence_folder(folder)


def test_the_example_of_the_page_runs(
    exported: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = json.loads((exported / "questions.json").read_text())["predictions"]
    assert [len(row["embedding"]) for row in rows] == [32, 32, 32]
    monkeypatch.chdir(exported)
    exec(example()[1], {})
    assert re.fullmatch(r"pages\.txt: line [1-8]\n", capsys.readouterr().out)


def test_a_folder_says_the_rest(tmp_path: Path) -> None:
    folder = make_sentence_folder(
        tmp_path, pooling="cls", normalize=False, lowercase=True, prompts=PROMPTS, default_prompt="document"
    )
    found = read_sentence_folder(folder)
    assert (found.pooling, found.normalize, found.max_tokens, found.lowercase) == ("cls", False, 96, True)
    assert (dict(found.prompts), found.default_prompt) == (PROMPTS, "document")
    # As sentence-transformers writes it since version 6.
    write(folder / "1_Pooling" / "config.json", {"embedding_dimension": 32, "pooling_mode": "max"})
    assert read_sentence_folder(folder).pooling == "max"
