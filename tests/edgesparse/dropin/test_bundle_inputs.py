"""What applications hand to a drop-in bundle: tokenizers' extras, long texts, short masks; its dense twin."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from edgesparse.dropin import attention_mode
from edgesparse.dropin.outputs import run_model
from edgesparse.dropin.sparsify import sparsify
from edgesparse_export.dropin.bundle import dense_model, export_model, position_count
from edgesparse_runtime.bundle.read import Bundle
from edgesparse_runtime.errors import InputError
from edgesparse_runtime.measure.compare import compare
from edgesparse_runtime.session import Session
from tests.edgesparse.dropin.tiny_models import sharpen, tiny

pytest.importorskip("transformers", reason="needs pip install 'edgesparse[dropin]'")


@pytest.fixture(scope="module")
def model() -> nn.Module:
    made, batch = tiny("bert")
    sharpen(made)
    return sparsify(made, [batch, batch], density=0.4, block_size=8)


@pytest.fixture(scope="module")
def bundle(model: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    batch = tiny("bert")[1]
    out = tmp_path_factory.mktemp("bundles") / "tiny.edgesparse"
    return export_model(model, batch, out, dense=dense_model(model, batch))[0]


def arrays() -> dict[str, np.ndarray]:
    return {name: x.numpy() for name, x in tiny("bert")[1].items()}


def test_token_types_of_a_single_text_are_taken(bundle: Bundle) -> None:
    session = Session(bundle)
    plain = session.predict(arrays())
    types = np.zeros_like(arrays()["input_ids"])
    assert np.array_equal(session.predict({**arrays(), "token_type_ids": types}), plain)
    with pytest.raises(InputError, match=r"`token_type_ids` must be 0 everywhere; .*single texts"):
        session.predict({**arrays(), "token_type_ids": types + 1})


def test_texts_beyond_the_positions_are_refused_in_one_sentence(bundle: Bundle) -> None:
    assert bundle.manifest["input"]["positions"] == 128
    session = Session(bundle)
    ids = np.full((1, 129), 5)
    with pytest.raises(InputError, match=r"at most 128 tokens, the positions of the model; got 129. "):
        session.predict({"input_ids": ids, "attention_mask": np.ones_like(ids)})
    whole = {"input_ids": ids[:, :128], "attention_mask": np.ones((1, 128), np.int64)}
    assert session.predict(whole).shape == (1, 128, 32)


def test_a_short_mask_is_refused_in_one_sentence(bundle: Bundle) -> None:
    short = {**arrays(), "attention_mask": np.ones((2, 60), np.int64)}
    with pytest.raises(InputError, match=r"must have as many tokens as `input_ids`, 70; got 60"):
        Session(bundle).predict(short)


def test_positions_are_counted_as_the_model_counts_them() -> None:
    assert position_count(tiny("bert")[0]) == 128
    # RoBERTa's table of 128 starts behind the padding id, 1.
    assert position_count(tiny("roberta")[0]) == 126
    assert position_count(tiny("llama")[0]) is None


def test_the_bundle_holds_the_dense_model_to_compare_with(bundle: Bundle, model: nn.Module) -> None:
    batch = tiny("bert")[1]
    with attention_mode(model, "dense"):
        expected = run_model(model, batch).numpy()
    dense = Session(bundle, attention="dense", threads=1)
    real = batch["attention_mask"].numpy().astype(bool)
    np.testing.assert_allclose(dense.predict(arrays())[real], expected[real], rtol=1e-3, atol=1e-4)
    sparse = Session(bundle, attention="sparse", threads=1)
    found = compare(dense, sparse, seconds=0.01)
    with torch.no_grad():
        apart = torch.cosine_similarity(
            torch.from_numpy(sparse.predict(arrays())), torch.from_numpy(expected), dim=-1
        )
    each = [float(apart[i][real[i]].mean()) for i in range(2)]
    assert found.cosine == pytest.approx(sum(each) / 2, abs=1e-4) and found.cosine < 0.9999
    assert found.equal is None and found.compared == 2


def test_without_a_dense_model_the_cure_is_named(bert_bundle: Bundle) -> None:
    with pytest.raises(InputError, match=r"no dense float32 twin. .*--with-dense"):
        Session(bert_bundle, attention="dense")


def test_compare_runs_one_row_at_a_time(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[int] = []
    predict = Session.predict

    def count(self: Session, data: object, *args: object, **options: object) -> object:
        rows.append(len(data))  # type: ignore[arg-type]
        return predict(self, data, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Session, "predict", count)
    compare(Session(bundle, threads=1), Session(bundle, threads=1), seconds=0.01)
    assert set(rows) == {1}
