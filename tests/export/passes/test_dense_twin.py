"""The dense twin says what the sparse model says with every block kept."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from edgesparse.training.train import train
from edgesparse_export.passes.dense_twin import dense_twin
from edgesparse_export.quantize.bundle import quantize_bundle
from edgesparse_export.run_bundle import export_run
from edgesparse_export.twin_bundle import add_twins
from edgesparse_runtime.bundle.read import Bundle, all_files, open_bundle
from edgesparse_runtime.bundle.write import store_files
from edgesparse_runtime.data.series_set import SeriesSet
from edgesparse_runtime.errors import GateError
from edgesparse_runtime.session import Session
from tests.support.synthetic import TINY_MODEL, make_series, tiny_config


@pytest.mark.parametrize("kind", ["plain", "unequal", "causal"])
def test_twin_equals_the_model_with_every_block(tmp_path: Path, kind: str) -> None:
    series = make_series(8, unequal=kind == "unequal")
    config = replace(tiny_config(epochs=1), model=replace(TINY_MODEL, causal=kind == "causal"))
    bundle, _ = export_run(train(series, config, tmp_path / "run", quiet=True), tmp_path / "m.edgesparse")
    twin = dense_twin(onnx.load_from_string(bundle.read("model.onnx")))
    assert twin is not None
    fused = [node for node in twin.graph.node if node.op_type == "MultiHeadAttention"]
    assert len(fused) == 2
    # Only padding needs a mask, and with one onnxruntime is slower.
    assert [len(node.input) for node in fused] == [5 if kind == "unequal" else 3] * 2
    assert [i.name for i in twin.graph.input] == ["window"]
    assert not any("router" in i.name for i in twin.graph.initializer)
    dense = Session("twin.onnx", content=twin.SerializeToString())
    full = Session(bundle, top_p=1.0, max_blocks=1000)
    expected = full.predict(series)
    np.testing.assert_allclose(dense.predict(series), expected, rtol=1e-4, atol=1e-5)
    few = Session(bundle, max_blocks=1).predict(series)
    assert np.abs(few - expected).max() > 1e-4
    for length in (8, 77, 600):
        windows = series.to_batch()[:3, :, :length]
        np.testing.assert_allclose(dense.predict(windows), full.predict(windows), rtol=1e-4, atol=1e-5)


def test_grouped_heads_and_dense_models_have_no_twin(shared_bundle: Bundle) -> None:
    model = onnx.load_from_string(shared_bundle.read("model.onnx"))
    twin = dense_twin(model)
    assert twin is not None
    assert dense_twin(twin) is None
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.name == "kv_num_heads":
                attribute.i = 1
    assert dense_twin(model) is None


def test_a_twin_of_other_weights_is_refused(
    tmp_path: Path, shared_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    import edgesparse_export.twin_bundle as module

    def spoilt(model: onnx.ModelProto) -> onnx.ModelProto | None:
        twin = dense_twin(model)
        assert twin is not None
        for node in twin.graph.node:
            if node.op_type == "MultiHeadAttention":
                node.input[0], node.input[1] = node.input[1], node.input[2]
        return twin

    path = shutil.copytree(shared_bundle.path, tmp_path / "m.edgesparse")
    before = {p.name: p.read_bytes() for p in Path(path).iterdir()}
    monkeypatch.setattr(module, "dense_twin", spoilt)
    with pytest.raises(GateError, match="must output what the float32 model outputs"):
        add_twins(open_bundle(path), ["float32"])
    assert {p.name: p.read_bytes() for p in Path(path).iterdir()} == before


def test_quantizing_an_archive_again_drops_its_old_twin(
    tmp_path: Path, shared_bundle: Bundle, series: SeriesSet
) -> None:
    one = store_files(tmp_path / "one.edgesparse", all_files(shared_bundle), archive=True)
    with_twins = add_twins(one, ["float32", "int8"])
    assert with_twins.is_archive
    assert set(with_twins.manifest["dense"]) == {"float32", "int8"}
    again, _ = quantize_bundle(with_twins, data=series, max_drop=0.5)
    assert again.is_archive
    assert set(again.manifest["dense"]) == {"float32"}
    assert "model.int8.dense.onnx" not in again.manifest["files"]
    np.testing.assert_array_equal(
        Session(again, precision="int8").predict(series),
        Session(shared_bundle, precision="int8").predict(series),
    )
