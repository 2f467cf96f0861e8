"""A tiny drop-in model that has been exported, shared: an export takes many seconds."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

import pytest

from edgesparse.dropin.sparsify import sparsify
from edgesparse_export.dropin.bundle import export_model
from edgesparse_runtime.bundle.read import Bundle, open_bundle
from edgesparse_runtime.cli.app import run
from tests.edgesparse.dropin.tiny_models import sharpen, tiny
from tests.edgesparse.dropin.tiny_sentences import PROMPTS, example, make_sentence_folder, sentences
from tests.support.built_once import BuiltOnce


@pytest.fixture
def bert_bundle(built_once: BuiltOnce, tmp_path: Path) -> Bundle:
    """A copy of an exported BERT, float32 alone and without its dense model."""

    def build(folder: Path) -> None:
        model, batch = tiny("bert")
        sharpen(model)
        sparsify(model, [batch, batch], density=0.5, block_size=8)
        export_model(model, batch, folder / "bert.edgesparse")

    exported = built_once("bert", build) / "bert.edgesparse"
    return open_bundle(shutil.copytree(exported, tmp_path / "copied.edgesparse"))


@pytest.fixture(scope="session")
def exported(built_once: BuiltOnce) -> Path:
    """A folder with the model `minilm` and the bundle that docs/guides/dropin.md's commands make of it."""

    def build(place: Path) -> None:
        make_sentence_folder(place / "minilm", prompts=PROMPTS)
        (place / "pages.txt").write_text("\n".join(sentences(8, 80)))
        (place / "questions.txt").write_text("\n".join(sentences(3, 6)))
        with contextlib.chdir(place):
            for line in example()[0]:
                # Smaller blocks for texts of 80 words.
                more = ["--block-size", "8"] if line[1] == "export" else []
                assert run([*line[1:], *more]) == 0, line

    return built_once("sentences", build)
