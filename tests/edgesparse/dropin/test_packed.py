"""Texts of any lengths packed one after the other: each says what it says alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir
import onnxruntime
import pytest
import torch

from edgesparse.dropin.sparsify import sparsify
from edgesparse_export.dropin.packed import packed_to_onnx, pool_packed
from edgesparse_export.dropin.sentence_encoder import SentenceEncoder, pool
from edgesparse_runtime.errors import InputError
from tests.support.kernels.fixtures import kernels_build as kernels_build
from tests.support.kernels.fixtures import library as library

t = pytest.importorskip("transformers", reason="needs pip install 'edgesparse[dropin]'")
LENGTHS = (5, 1, 70, 64, 17)


SIZE = {"vocab_size": 64, "hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 48}
IDS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "XLMRoberta": ("XLMRobertaModel", {"num_hidden_layers": 1, "max_position_embeddings": 128}),
    "ModernBert": (
        "ModernBertModel",
        {**IDS, "num_hidden_layers": 2, "local_attention": 8, "global_attn_every_n_layers": 2},
    ),
    "Qwen3": ("Qwen3Model", {"num_hidden_layers": 1, "num_key_value_heads": 2, "head_dim": 8}),
    "ViT": ("ViTModel", {"num_hidden_layers": 1, "image_size": 16, "patch_size": 8}),
}


def make(name: str) -> Any:
    torch.manual_seed(0)
    kind, facts = MODELS[name]
    size = {key: x for key, x in SIZE.items() if name != "ViT" or key != "vocab_size"}
    config = getattr(t, f"{name}Config")(**size, **facts)
    return getattr(t, kind)(config).eval().requires_grad_(False)


def texts() -> list[np.ndarray]:
    draw = np.random.default_rng(3)
    return [draw.integers(3, 60, length) for length in LENGTHS]


def open_session(exported: onnx_ir.Model, library: object = None) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    if library is not None:
        options.register_custom_ops_library(str(library))
    content = onnx_ir.to_proto(exported).SerializeToString()
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def packed_feeds() -> dict[str, np.ndarray]:
    return {"input_ids": np.concatenate(texts()), "starts": np.cumsum([0, *LENGTHS])}


@pytest.mark.parametrize("name", ["XLMRoberta", "ModernBert", "Qwen3"])
def test_each_text_gets_what_it_gets_alone(library: object, name: str) -> None:
    model = make(name)
    with torch.no_grad():
        alone = [model(torch.from_numpy(x)[None]).last_hidden_state[0].numpy() for x in texts()]
    sparsify(model)
    exported = packed_to_onnx(model)
    for chosen in (None, library):
        (found,) = open_session(exported, chosen).run(["scores"], packed_feeds())
        np.testing.assert_allclose(found, np.concatenate(alone), rtol=1e-4, atol=2e-5)


def test_embeddings_leave_the_file_pooled_and_normalized() -> None:
    encoder = SentenceEncoder(make("XLMRoberta"), "mean", is_normalized=True)
    with torch.no_grad():
        alone = []
        for x in texts():
            ids = torch.from_numpy(x)[None]
            alone.append(encoder(input_ids=ids, attention_mask=torch.ones_like(ids))["sentence_embedding"][0])
    sparsify(encoder.model)
    found, states = open_session(packed_to_onnx(encoder)).run(None, packed_feeds())
    np.testing.assert_allclose(found, torch.stack(alone).numpy(), rtol=1e-4, atol=2e-5)
    assert states.shape == (sum(LENGTHS), 32)


@pytest.mark.parametrize("pooling", ["mean", "cls", "lasttoken"])
def test_texts_are_pooled_as_each_is_alone(pooling: str) -> None:
    starts = torch.tensor(np.cumsum([0, *LENGTHS]))
    states = torch.randn(int(starts[-1]), 8)
    text = torch.repeat_interleave(torch.arange(len(LENGTHS)), torch.tensor(LENGTHS))
    found = pool_packed(states, starts, text, pooling)
    parts = [states[starts[i] : starts[i + 1]] for i in range(len(LENGTHS))]
    for i, part in enumerate(parts):
        alone = pool(part[None], torch.ones(1, len(part), dtype=torch.int64), pooling)[0]
        torch.testing.assert_close(found[i], alone)


def test_what_cannot_be_packed_is_refused() -> None:
    model = make("XLMRoberta")
    with pytest.raises(
        InputError, match="`pooling` of packed texts must be one of mean, cls, lasttoken; got max"
    ):
        packed_to_onnx(SentenceEncoder(model, "max", is_normalized=False))
    with pytest.raises(InputError, match="it has none"):
        packed_to_onnx(model)
    with pytest.raises(InputError, match="ViTModel must take `position_ids`"):
        packed_to_onnx(make("ViT"))


@pytest.mark.parametrize("pooling", ["mean", "cls", "lasttoken"])
def test_an_empty_text_has_an_embedding_of_zeros(pooling: str) -> None:
    states, starts = torch.randn(20, 4), torch.tensor([0, 0, 9, 9, 20, 20])
    text = (starts[:, None] <= torch.arange(20)).sum(0) - 1
    found = pool_packed(states, starts, text, pooling)
    assert not found[[0, 2, 4]].any()
    expected = {"mean": lambda x: x.mean(0), "cls": lambda x: x[0], "lasttoken": lambda x: x[-1]}[pooling]
    for row, part in ((1, states[:9]), (3, states[9:])):
        torch.testing.assert_close(found[row], expected(part))
