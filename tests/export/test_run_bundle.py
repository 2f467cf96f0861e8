"""A trained run as a bundle: parity, knobs, int8, and that a broken export is refused."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from edgesparse.config import RunConfig
from edgesparse.training.run_folder import Run
from edgesparse.training.train import train
from edgesparse_export import run_bundle
from edgesparse_export.parity import compare
from edgesparse_export.quantize.bundle import quantize_bundle
from edgesparse_export.quantize.int8 import attention_nodes, linear_nodes, quantize_dynamically
from edgesparse_export.quantize.recipe import Int8Recipe
from edgesparse_export.run_bundle import export_run
from edgesparse_runtime.bundle.read import Bundle, open_bundle
from edgesparse_runtime.data.series_set import SeriesSet
from edgesparse_runtime.errors import GateError, InputError
from edgesparse_runtime.evaluation.verify import verify
from edgesparse_runtime.session import Session
from tests.support.synthetic import make_series, tiny_config
from tests.support.tolerances import ENGINES


def one_layer(**training: object) -> RunConfig:
    """One pass over one layer: where the model need not be good, and an export takes long."""
    config = tiny_config(epochs=1, **training)
    return replace(config, model=replace(config.model, layers=1))


def test_bundle_says_what_the_model_says(shared_bundle: Bundle, tiny_run: Run) -> None:
    windows = make_series(5, steps=431, seed=3).to_batch()
    expected = tiny_run.to_scores(tiny_run.model(torch.from_numpy(windows))).detach().numpy()
    actual = Session(shared_bundle, precision="float32").predict(windows)
    np.testing.assert_allclose(actual, expected, rtol=ENGINES.relative, atol=ENGINES.absolute)


def test_function_body_and_kernel_agree(
    shared_bundle: Bundle, series: SeriesSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = Session(shared_bundle, precision="float32")
    monkeypatch.setenv("EDGESPARSE_ENGINE", "body")
    body = Session(shared_bundle, precision="float32")
    assert body.engine == "function body (EDGESPARSE_ENGINE=body)"
    np.testing.assert_allclose(
        usual.predict(series), body.predict(series), rtol=ENGINES.relative, atol=ENGINES.absolute
    )
    for a, b in zip(usual.selections(series), body.selections(series), strict=True):
        assert (a == b).mean() >= 0.999


def test_density_is_a_knob_of_the_file(shared_bundle: Bundle, series: SeriesSet) -> None:
    shares = []
    for top_p in (0.0, 0.5, 1.0):
        session = Session(shared_bundle, precision="float32", top_p=top_p, max_blocks=1 << 20)
        shares.append(float(np.mean([s.mean() for s in session.selections(series)])))
    # Ten blocks: with the window alone each query block sees one of them.
    assert shares[0] == pytest.approx(0.1)
    assert 0.1 < shares[1] < 1.0
    assert shares[2] == 1.0


def test_dense_models_export_too_and_have_no_knob(tmp_path: Path, series: SeriesSet) -> None:
    config = one_layer()
    config = replace(config, model=replace(config.model, attention="dense"))
    run = train(series, config, tmp_path / "run", quiet=True)
    bundle, verdict = export_run(run, tmp_path / "dense.edgesparse", data=series)
    assert verdict.holds
    assert verdict.selection_overlap is None
    assert Session(bundle).engine == "onnxruntime"
    kinds = {node.op_type for node in onnx.load(bundle.model_path("float32")).graph.node}
    assert "MultiHeadAttention" in kinds
    with pytest.raises(InputError, match="this model is dense"):
        Session(bundle, top_p=0.5)


def test_unequal_lengths_and_regression_export(tmp_path: Path) -> None:
    data = make_series(unequal=True)
    data = SeriesSet(data.series, data.channels, np.arange(36.0) * 10, source="level")
    run = train(data, one_layer(task="regression"), tmp_path / "run", quiet=True)
    bundle, verdict = export_run(run, tmp_path / "level.edgesparse", data=data)
    assert verdict.holds
    scores = Session(bundle).predict(data)
    assert scores.shape == (36, 1)
    alone = Session(bundle).predict(data.series[0])
    np.testing.assert_allclose(scores[:1], alone, rtol=1e-3)


def test_a_broken_export_is_refused_and_leaves_nothing(
    tmp_path: Path, tiny_run: Run, series: SeriesSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = run_bundle.torch_outputs

    def shifted(*arguments: object) -> object:
        scores, selections = original(*arguments)  # type: ignore[arg-type]
        return scores[:, ::-1], selections

    monkeypatch.setattr(run_bundle, "torch_outputs", shifted)
    with pytest.raises(GateError, match="decisions flipped"):
        export_run(tiny_run, tmp_path / "bad.edgesparse", data=series)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def own_bundle(tmp_path: Path, exported_bundle: Bundle) -> Bundle:
    """A float32 bundle that a test may change."""
    shutil.copytree(exported_bundle.path, tmp_path / "m.edgesparse")
    return open_bundle(tmp_path / "m.edgesparse")


def attention_precisions(model: onnx.ModelProto) -> dict[str, bytes]:
    return {
        node.name: attribute.s
        for node in model.graph.node
        if node.name in attention_nodes(model)
        for attribute in node.attribute
        if attribute.name == "precision"
    }


def test_export_leaves_the_model_as_it_was(tmp_path: Path, tiny_run: Run, series: SeriesSet) -> None:
    window = torch.from_numpy(series.to_batch()[:2])
    before = tiny_run.model(window)
    export_run(tiny_run, tmp_path / "again.edgesparse", data=series)
    assert torch.equal(tiny_run.model(window), before)


def test_plain_onnxruntime_runs_the_file(shared_bundle: Bundle, series: SeriesSet) -> None:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    plain = onnxruntime.InferenceSession(str(shared_bundle.model_path("float32")), options)
    (scores,) = plain.run(["scores"], {"window": series.to_batch()})
    np.testing.assert_allclose(
        scores, Session(shared_bundle, precision="float32").predict(series), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("mode", ["dynamic", "static"])
def test_int8_keeps_the_decisions(own_bundle: Bundle, series: SeriesSet, mode: str) -> None:
    bundle, report = quantize_bundle(own_bundle, Int8Recipe(mode=mode), data=series, max_drop=0.06)
    assert report.decisions_flipped is not None
    assert report.decisions_flipped <= 2
    assert report.selection_overlap is not None
    assert report.selection_overlap > 0.8
    assert open_bundle(bundle.path).precisions == ("float32", "int8")
    int8 = onnx.load(bundle.model_path("int8"))
    kinds = {"Linear", "LinearSplit"} if mode == "dynamic" else {"QLinearMatMul", "DequantizeLinear"}
    assert kinds & {n.op_type for n in int8.graph.node}
    ours = {n.op_type for n in int8.graph.node if n.domain == "edgesparse"}
    assert ours <= {f.name for f in int8.functions}
    # What is left is too small to gain.
    assert len(linear_nodes(int8)) <= 2
    assert set(attention_precisions(int8).values()) == {b"int8"}
    assert report.attention_layers == 2


def test_excluded_attention_stays_in_float32(shared_bundle: Bundle) -> None:
    model = onnx.load(shared_bundle.model_path("float32"))
    first, second = attention_nodes(model)
    precisions = attention_precisions(quantize_dynamically(model, nodes_to_exclude=[first]))
    assert precisions == {first: b"float32", second: b"int8"}


@pytest.mark.parametrize("engine", ["body", "native"])
def test_int8_bundle_verifies_on_both_engines(
    shared_bundle: Bundle, monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    monkeypatch.setenv("EDGESPARSE_ENGINE", engine)
    checks = verify(shared_bundle)
    assert {"float32 scores", "int8 scores"} <= {check.boundary for check in checks}
    assert all(check.holds for check in checks)


def test_int8_that_costs_too_much_is_refused(own_bundle: Bundle, series: SeriesSet) -> None:
    before = {p.name: p.read_bytes() for p in own_bundle.path.iterdir()}
    with pytest.raises(GateError, match="The bundle is unchanged"):
        quantize_bundle(own_bundle, data=series, max_drop=-1.0)
    assert {p.name: p.read_bytes() for p in own_bundle.path.iterdir()} == before


def test_static_needs_data(shared_bundle: Bundle) -> None:
    with pytest.raises(InputError, match="needs data to observe ranges on"):
        quantize_bundle(shared_bundle, Int8Recipe(mode="static"))


def test_budget_travels_with_the_file(shared_bundle: Bundle, tiny_run: Run, series: SeriesSet) -> None:
    selections = Session(shared_bundle, precision="float32").selections(series)
    density = float(np.mean([s.mean() for s in selections]))
    assert density == pytest.approx(tiny_run.report["compute"]["density"], abs=0.02)
    assert density < 0.5


def test_one_flat_window_among_others_is_exported(tmp_path: Path) -> None:
    """A machine that stood still for a window: at a level that no mean of it gives exactly."""
    mixed = make_series(8)
    for x in mixed.series[::3]:
        x[:] = -0.48846787
    run = train(mixed, one_layer(), tmp_path / "run", quiet=True)
    _, verdict = export_run(run, tmp_path / "mixed.edgesparse", data=mixed)
    assert verdict.holds


def test_choices_count_where_a_score_moved() -> None:
    scores = np.array([[0.2, 0.8], [0.3, 0.7]], dtype=np.float32)
    one, other = np.zeros((2, 1, 4, 4), dtype=bool), np.zeros((2, 1, 4, 4), dtype=bool)
    other[1] = True
    assert compare(scores, scores, [one], [other]).holds
    moved = scores + np.array([[0.0], [5e-6]], dtype=np.float32)
    verdict = compare(scores, moved, [one], [other])
    assert verdict.within_tolerance
    assert not verdict.holds
    assert verdict.selection_overlap == 0.5


def test_constant_data_tie_and_are_exported(tmp_path: Path) -> None:
    flat = make_series(6)
    for x in flat.series:
        x[:] = 5.0
    run = train(flat, one_layer(), tmp_path / "run", quiet=True)
    _, verdict = export_run(run, tmp_path / "flat.edgesparse", data=flat)
    assert verdict.holds
