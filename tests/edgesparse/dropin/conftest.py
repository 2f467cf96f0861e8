"""A tiny drop-in model that has been exported, shared: an export takes many seconds."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from edgesparse.dropin.sparsify import sparsify
from edgesparse_export.dropin.bundle import export_model
from edgesparse_runtime.bundle.read import Bundle, open_bundle
from tests.edgesparse.dropin.tiny_models import sharpen, tiny
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
