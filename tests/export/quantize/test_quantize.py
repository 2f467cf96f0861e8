"""Quantization beyond the good case: ranges, targets, the search, its config, and what is reported."""

from __future__ import annotations

import shutil
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import yaml

from edgesparse.training.train import train
from edgesparse_export.quantize.bundle import quantize_bundle
from edgesparse_export.quantize.gate import Change, QuantizationGate, missed_alarms
from edgesparse_export.quantize.int8 import linear_nodes, quantize_dynamically, quantize_natively
from edgesparse_export.quantize.ranges import BINS, TensorRange, observe_ranges
from edgesparse_export.quantize.recipe import Int8Recipe, read_recipe, write_recipe
from edgesparse_export.quantize.search import NodeEffect, Search
from edgesparse_export.quantize.targets import (
    can_saturate,
    multiply_without_vnni,
    parse_targets,
    saturating_nodes,
)
from edgesparse_export.run_bundle import export_run
from edgesparse_runtime.bundle.read import Bundle, open_bundle
from edgesparse_runtime.data.series_set import SeriesSet
from edgesparse_runtime.errors import GateError, InputError
from edgesparse_runtime.session import Session
from tests.support.synthetic import make_series, tiny_config


@pytest.fixture
def bundle(tmp_path: Path, shared_bundle: Bundle) -> Bundle:
    """A copy that a test may change."""
    shutil.copytree(shared_bundle.path, tmp_path / "m.edgesparse")
    return open_bundle(tmp_path / "m.edgesparse")


def test_streamed_ranges_equal_those_of_all_values_at_once() -> None:
    draw = np.random.default_rng(0)
    parts = [(draw.standard_normal(500) * 10**i).astype(np.float32) for i in range(-2, 3)]
    everything = np.concatenate(parts)
    found = TensorRange()
    for part in parts:
        found.add(part)
    assert found.counts.shape == (BINS,)
    assert found.counts.sum() == everything.size
    assert found.range("minmax") == (everything.min(), everything.max())
    low, high = found.range("percentile")
    assert everything.min() <= low < high <= everything.max()


@pytest.mark.parametrize("method", ["percentile", "entropy"])
def test_one_outlier_does_not_set_the_range(method: str) -> None:
    draw = np.random.default_rng(0)
    found = TensorRange()
    for _ in range(20):
        found.add(draw.standard_normal(5000).astype(np.float32))
    found.add(np.array([100.0], np.float32))
    assert found.range("minmax")[1] == 100.0
    low, high = found.range(method)  # type: ignore[arg-type]
    # Entropy looks no nearer than an eighth of the range that the outlier has opened.
    assert -10 < low < -2
    assert 2 < high < 70


def test_ranges_hold_zero_and_skip_what_is_not_finite() -> None:
    found = TensorRange()
    found.add(np.array([np.inf, np.nan, 3.0, 5.0], np.float32))
    found.add(np.zeros(0, np.float32))
    assert found.range("minmax") == (0.0, 5.0)
    assert TensorRange().range("entropy") == (0.0, 0.0)
    constant = TensorRange()
    constant.add(np.zeros(9, np.float32))
    assert constant.range("percentile") == (0.0, 0.0)


def test_ranges_are_observed_through_our_operators(bundle: Bundle, series: SeriesSet) -> None:
    """Through the session that the device opens, one window at a time."""
    model = onnx.load(bundle.model_path("float32"))
    last = linear_nodes(model)[-1]
    tensor = next(n.input[0] for n in model.graph.node if n.name == last)
    windows = Session(bundle, precision="float32").prepare(series)
    found = observe_ranges(model, [tensor], windows, "minmax")
    assert found[tensor][0] < 0 < found[tensor][1]
    with pytest.raises(InputError, match="at least one window"):
        observe_ranges(model, [tensor], [], "minmax")


@pytest.mark.parametrize("method", ["minmax", "entropy", "percentile"])
def test_static_methods_keep_the_decisions(bundle: Bundle, series: SeriesSet, method: str) -> None:
    _, report = quantize_bundle(bundle, Int8Recipe(mode="static", method=method), data=series, max_drop=0.06)
    assert report.decisions_flipped is not None
    assert report.decisions_flipped <= 2


def test_full_range_weights_saturate_without_vnni_and_seven_bits_do_not() -> None:
    draw = np.random.default_rng(0)
    inputs = draw.integers(200, 256, (20, 64)).astype(np.uint8)
    exact = inputs.astype(np.int32)
    full = draw.choice([-127, 127], (64, 8)).astype(np.int8)
    full[:, 0] = 127
    seven = (full // 2).astype(np.int8)
    assert can_saturate(full)
    assert not can_saturate(seven)
    assert (multiply_without_vnni(inputs, full) != exact @ full.astype(np.int32)).any()
    np.testing.assert_array_equal(multiply_without_vnni(inputs, seven), exact @ seven.astype(np.int32))


def test_onnxruntime_weights_are_safe_for_the_targets(bundle: Bundle) -> None:
    model = onnx.load(bundle.model_path("float32"))
    # One weight that dominates its column is what makes a pair saturate: the largest is 127 by construction,
    # so two of them do.
    for initializer in model.graph.initializer:
        if initializer.name in {n.input[1] for n in model.graph.node if n.name in linear_nodes(model)}:
            array = onnx.numpy_helper.to_array(initializer).copy()
            array[0], array[1] = np.abs(array).max(axis=0), np.abs(array).max(axis=0)
            initializer.CopyFrom(onnx.numpy_helper.from_array(array, initializer.name))
    assert saturating_nodes(quantize_dynamically(model), ("avx2",))
    assert not saturating_nodes(quantize_dynamically(model), ("avx512_vnni", "arm64"))
    assert not saturating_nodes(quantize_dynamically(model, seven_bits=True), ("avx2", "arm64"))


def test_recipes_pick_the_range_of_the_targets() -> None:
    assert not Int8Recipe(targets=("avx2",)).seven_bits
    assert Int8Recipe(linear="onnxruntime", targets=("arm64", "avx2")).seven_bits
    assert not Int8Recipe(linear="onnxruntime", targets=("arm64", "avx512_vnni")).seven_bits
    assert Int8Recipe(mode="static").seven_bits
    with pytest.raises(InputError, match="`--targets` must be some of avx2"):
        parse_targets("avx2,mmx")


def test_search_ends_with_a_recipe_that_holds_the_gate(bundle: Bundle, series: SeriesSet) -> None:
    said: list[tuple[Int8Recipe, list[NodeEffect]]] = []
    bundle, report = quantize_bundle(
        bundle, data=series, max_drop=0.06, time_budget=30, on_ranking=lambda *x: said.append(x)
    )
    ((recipe, ranking),) = said
    assert report.recipe == recipe
    assert report.complete
    assert [e.name for e in ranking] == [e.name for e in report.ranking]
    changes = [e.score_change for e in ranking]
    assert changes == sorted(changes, reverse=True)
    assert {e.kind for e in ranking} == {"linear", "attention"}
    assert all(e.saved_ms is not None and e.low <= e.saved_ms <= e.high for e in ranking)  # type: ignore[operator]
    # What clearly gains nothing here stays in float32, unless that would be everything.
    useless = {e.name for e in ranking if e.gains_nothing}
    assert useless <= set(recipe.float32) or len(useless) == len(ranking)
    assert report.linear_layers + report.attention_layers > 0


class _StrictGate(QuantizationGate):
    """Passes only a model whose first linear layer stays in float32."""

    def holds(self, change: Change) -> bool:
        return change.drop == 0.0

    def measure(self, content: bytes, *, before: Session | None = None) -> Change:
        change = super().measure(content, before=before)
        model = onnx.load_from_string(self.bundle.read("model.onnx"))
        in_int8 = {n.name for n in onnx.load_from_string(content).graph.node if n.domain}
        return replace(change, drop=0.5 if linear_nodes(model)[0] in in_int8 else 0.0)


def test_search_keeps_the_most_harmful_nodes_in_float32(
    bundle: Bundle, series: SeriesSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(NodeEffect, "gains_nothing", False)
    model = onnx.load(bundle.model_path("float32"))
    culprit = linear_nodes(model)[0]
    gate = _StrictGate(bundle, series)
    found = Search(model, Int8Recipe(), None, gate, time.monotonic() + 60, lambda _: None).run()
    assert found.recipe is not None and culprit in found.recipe.float32
    assert found.tried >= 2
    # A prefix of the ranking, most harmful first, and no longer than it must be.
    ranked = [e.name for e in found.ranking]
    assert set(found.recipe.float32) == set(ranked[: ranked.index(culprit) + 1])


def test_no_time_at_all_still_ends(bundle: Bundle, series: SeriesSet) -> None:
    before = {p.name: p.read_bytes() for p in bundle.path.iterdir()}
    with pytest.raises(GateError, match="The bundle is unchanged"):
        quantize_bundle(bundle, data=series, max_drop=-1.0, time_budget=0.0)
    assert {p.name: p.read_bytes() for p in bundle.path.iterdir()} == before


def test_a_config_can_be_edited_and_run_again(tmp_path: Path, bundle: Bundle, series: SeriesSet) -> None:
    path = tmp_path / "m.quantize.yaml"
    effect = NodeEffect("n", "linear", 0.1, 1, 0.5, 0.4, 0.6, 32)
    write_recipe(path, Int8Recipe(per_channel=False), [effect.to_dict()])
    content = yaml.safe_load(path.read_text())
    assert content["ranking"][0]["score_change"] == 0.1
    first = linear_nodes(onnx.load(bundle.model_path("float32")))[0]
    path.write_text(yaml.safe_dump(content | {"float32": [first]}))
    recipe = read_recipe(path)
    assert recipe == Int8Recipe(per_channel=False, float32=(first,))
    _, report = quantize_bundle(bundle, recipe, data=series, max_drop=0.5)
    assert report.recipe.float32 == (first,)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("mode: sometimes", "`mode` must be dynamic or static; got sometimes"),
        ("modes: static", "unknown key `modes`"),
        ("float32: node", "`float32` must be a list of names"),
        ("- 1", "must hold the keys"),
        ("a: [", "must be YAML"),
        ("targets: [mmx]", "`--targets` must be some of"),
        ("per_channel: perhaps", "`per_channel` must be true or false"),
    ],
)
def test_bad_configs_are_refused(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "bad.yaml").write_text(text)
    with pytest.raises(InputError, match=words):
        read_recipe(tmp_path / "bad.yaml")
    with pytest.raises(InputError, match="no such file"):
        read_recipe(tmp_path / "none.yaml")


def test_unknown_nodes_and_nothing_left_are_refused(bundle: Bundle) -> None:
    model = onnx.load(bundle.model_path("float32"))
    with pytest.raises(InputError, match="must be nodes of the model"):
        quantize_bundle(bundle, Int8Recipe(float32=("nowhere",)))
    with pytest.raises(InputError, match="none is left"):
        quantize_bundle(bundle, Int8Recipe(float32=tuple(Int8Recipe().nodes(model))))


def test_every_figure_has_n_and_interval(bundle: Bundle, series: SeriesSet) -> None:
    bundle, report = quantize_bundle(
        bundle, data=series, max_drop=0.5, metric="balanced_accuracy", alarm="slow"
    )
    change = report.change
    for figure in (change.metric, change.int8, change.flipped, change.selection_overlap):
        assert figure is not None
        assert figure.n == len(series)
        assert figure.low <= figure.value <= figure.high
    assert change.metric is not None
    assert change.metric.name == "balanced_accuracy"
    assert change.alarms is None  # 18 series without alarm cannot tell a rate of 5 %
    with pytest.raises(InputError, match="must name a metric of this task"):
        quantize_bundle(bundle, data=series, metric="mae")
    with pytest.raises(InputError, match="`--alarm` must be a class"):
        quantize_bundle(bundle, data=series, alarm="loud")


def test_missed_alarms_are_counted_at_equal_false_alarms() -> None:
    """int8 shifts every score: at thresholds of their own, both models miss the same."""
    draw = np.random.default_rng(0)
    is_alarm = np.arange(400) % 4 == 0
    score = draw.standard_normal(400) + 2.0 * is_alarm
    old = np.stack([-score, score], axis=1).astype(np.float32)
    found = missed_alarms(old, old + np.float32(0.7), is_alarm, 1, "fault", 0.05)
    assert found is not None
    assert found.missed_float32 == found.missed_int8
    assert found.without_alarm == 300
    threshold = np.sort(score[~is_alarm])[::-1][15]
    assert (score[~is_alarm] > threshold).mean() <= 0.05
    assert found.missed_float32.value == pytest.approx((score[is_alarm] <= threshold).mean())
    assert missed_alarms(old, old, is_alarm, 1, "fault", 0.001) is None


def test_int8_files_hold_no_weights_that_nothing_reads(bundle: Bundle) -> None:
    model = onnx.load_from_string(bundle.read("model.int8.onnx"))
    read = {name for node in model.graph.node for name in node.input}
    read |= {i.name for i in model.graph.input}
    assert [weight.name for weight in model.graph.initializer if weight.name not in read] == []


def test_the_head_of_a_long_forecast_saturates_on_no_target(tmp_path: Path) -> None:
    """300 columns are no multiple of 16 and worth the conversion: left to onnxruntime's operators."""
    series = make_series(8, steps=900)
    config = tiny_config(epochs=1, task="forecasting", horizon=300, target="current")
    bundle, _ = export_run(train(series, config, tmp_path / "run", quiet=True), tmp_path / "m.edgesparse")
    bundle, report = quantize_bundle(bundle, data=series, max_drop=0.5)
    made = onnx.load_from_string(bundle.read("model.int8.onnx"))
    assert any(node.op_type == "MatMulInteger" for node in made.graph.node)
    assert not saturating_nodes(made, report.recipe.targets)
    model = onnx.load_from_string(bundle.read("model.onnx"))
    assert saturating_nodes(quantize_natively(model), report.recipe.targets)
