"""The step model: a causal model fed sample by sample says what its full-window run says."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import onnx.numpy_helper
import pytest
import torch

from edgesparse.attention.layer import SparseAttention
from edgesparse.config import ModelConfig, RunConfig
from edgesparse.model.transformer import Layer, SequenceTransformer
from edgesparse.training.train import train
from edgesparse_export.run_bundle import export_run
from edgesparse_export.step.files import can_step, step_fields, step_files
from edgesparse_runtime.bundle.read import Bundle, open_bundle
from edgesparse_runtime.bundle.write import rewrite_bundle
from edgesparse_runtime.data.series_set import SeriesSet
from edgesparse_runtime.errors import BundleError
from edgesparse_runtime.evaluation.verify import verify
from edgesparse_runtime.session import Session
from edgesparse_runtime.stream import Sample, Stream, StreamOptions
from edgesparse_runtime.stream.step.replay import run_tokens
from edgesparse_runtime.stream.step.token_stream import StepFacts, StepModel, TokenStream, has_step_model
from tests.support.built_once import BuiltOnce
from tests.support.synthetic import TINY_MODEL, make_series, tiny_config
from tests.support.tolerances import ENGINES

BASE = ModelConfig(
    width=16,
    layers=2,
    num_heads=4,
    filters=8,
    patch=4,
    dilations=(1, 4),
    thresholds=2,
    block_size=8,
    causal=True,
)


@cache
def make_model(config: ModelConfig, top_p: float, groups: int | None = None) -> SequenceTransformer:
    """Untrained, but with nothing left at zero and a router that does not score evenly."""
    torch.manual_seed(0)
    model = SequenceTransformer(config, channels=3, outputs=2)
    model.fit_stem(torch.randn(8, 3, 400).cumsum(-1))
    for layer in model.layers:
        assert isinstance(layer, Layer)
        attention = layer.attention
        if groups is not None:
            attention = SparseAttention(replace(attention.config, kv_num_heads=groups))
            layer.attention = attention
        if attention.router is not None:
            attention.top_p.copy_(torch.linspace(top_p / 2, top_p, config.num_heads))
            torch.nn.init.normal_(attention.router.query_weight, std=2.0)
            torch.nn.init.normal_(attention.router.key_weight, std=2.0)
        if attention.value_conv is not None:
            torch.nn.init.normal_(attention.value_conv.weight, std=0.5)
    return model.eval()


@cache
def open_step(model: SequenceTransformer) -> StepModel:
    step, block = step_files(model, lambda x: x.softmax(-1))
    return StepModel(StepFacts("step", "block", **step_fields(model)), step, block, channels=model.channels)


@pytest.mark.parametrize(
    ("change", "top_p", "groups"),
    [
        ({}, 0.5, None),
        ({"window": 2, "value_filter": 0}, 0.9, 2),
        ({"summaries": False, "patch": 1, "layers": 1}, 0.3, None),
        ({"block_size": 5, "dilations": (3,), "layers": 1}, 1.0, None),
        ({"attention": "dense", "layers": 1}, 1.0, None),
        # A token that holds more steps than the filters look back on.
        ({"dilations": (1,), "patch": 16, "block_size": 4, "layers": 1}, 0.5, None),
    ],
)
@torch.no_grad()
def test_equals_the_naive_twin_at_every_sample(
    change: dict[str, object], top_p: float, groups: int | None
) -> None:
    model = make_model(replace(BASE, **change), top_p, groups)  # type: ignore[arg-type]
    window = torch.randn(1, 3, 203).cumsum(-1)
    window[:, :, 50:53] = torch.nan
    window[:, 1, 120:140] = torch.nan
    stream = TokenStream(open_step(model), 203)
    actual = np.stack([stream.push(x) for x in window[0].T.numpy()])
    near = {"rtol": ENGINES.relative, "atol": ENGINES.absolute}
    at_tokens = model.score_tokens(window).softmax(-1)[0].numpy()
    ends = [*range(model.patch - 1, 203, model.patch)]
    np.testing.assert_allclose(actual[ends], at_tokens[: len(ends)], **near)
    # The naive twin: the whole window up to each sample.
    for k in (0, 1, 6, 31, 32, 33, 63, 64, 99, 160, 202):
        twin = model(window[:, :, : k + 1]).softmax(-1)[0].numpy()
        np.testing.assert_allclose(actual[k], twin, **near, err_msg=str(k))
    assert np.ptp(actual[:, 0]) > 0.01


@torch.no_grad()
def test_samples_that_are_not_asked_for_cost_nothing_and_change_nothing() -> None:
    model = make_model(BASE, 0.5, None)
    opened = open_step(model)
    window = torch.randn(3, 101).numpy()
    stream = TokenStream(opened, 101)
    every = [stream.push(x) for x in window.T]
    np.testing.assert_array_equal(run_tokens(opened, window)[-1], every[-1])
    with pytest.raises(ValueError, match="`steps` must be at least the number of samples; it is 101"):
        stream.push(window[:, 0])


def test_only_causal_models_without_another_head_step() -> None:
    assert can_step(make_model(BASE, 0.5, None))
    assert not can_step(SequenceTransformer(replace(BASE, causal=False), channels=1, outputs=2))
    assert not can_step(torch.nn.Linear(1, 1))


@pytest.fixture(scope="module")
def causal_bundle(built_once: BuiltOnce, series: SeriesSet) -> Bundle:
    def build(folder: Path) -> None:
        config = RunConfig(model=replace(TINY_MODEL, causal=True), training=tiny_config(epochs=4).training)
        run = train(series, config, folder / "run", quiet=True)
        export_run(run, folder / "causal.edgesparse", data=series)

    return open_bundle(built_once("causal", build) / "causal.edgesparse")


def test_the_bundle_carries_it(causal_bundle: Bundle, shared_bundle: Bundle) -> None:
    assert has_step_model(causal_bundle) and not has_step_model(shared_bundle)
    entry = causal_bundle.manifest["stream"]
    assert entry["steps_per_token"] == 8 and entry["largest_difference"] < ENGINES.absolute
    assert {"model.step.onnx", "model.block.onnx"} <= set(causal_bundle.manifest["files"])


def test_a_stream_scores_what_its_stretch_scores_as_a_window(causal_bundle: Bundle) -> None:
    """Each score is that of the full-window run over the steps from `start` to `time`, gaps included."""
    values = np.concatenate(make_series(4, seed=9).series, axis=1)
    session = Session(causal_bundle, precision="float32", threads=1)
    stream = Stream(session, StreamOptions(window=600, stride=7, period=1.0, max_gap=20))
    # 698 would be scored, were it there: its turn comes at 701.
    gone = {698, 699, 700, 1100}
    samples = [
        Sample(values[:, k], float(k), 0.0) for k in range(2400) if k not in gone and not 1500 <= k < 1550
    ]
    scores = [score for sample in samples for score in stream.push(sample)]
    assert stream.is_incremental and stream.counts.filled == len(gone) and stream.counts.restarts == 1
    filled = values.copy()
    filled[:, sorted(gone)] = np.nan
    assert {score.segment for score in scores} == {0, 1}
    assert all(300 <= score.steps <= 600 for score in scores)
    assert len(scores) > 200
    for score in scores[::9]:
        window = filled[:, int(score.start) : int(score.time) + 1]
        assert window.shape[1] == score.steps
        assert score.missing == pytest.approx(float(np.isnan(window).mean()))
        np.testing.assert_allclose(
            score.values, session.predict(window)[0], rtol=ENGINES.relative, atol=ENGINES.absolute
        )
    steps = np.diff([score.time for score in scores if score.segment == 0]).tolist()
    assert steps == [10.0 if i == 56 else 4.0 if i == 57 else 7.0 for i in range(len(steps))]


def test_defaults_and_whole_windows(causal_bundle: Bundle) -> None:
    session = Session(causal_bundle, precision="float32")
    assert Stream(session).options.stride == 8
    whole = Stream(session, StreamOptions(whole_windows=True))
    assert not whole.is_incremental and whole.options.stride == 150


def test_density_is_a_knob_here_too(causal_bundle: Bundle) -> None:
    values = make_series(1, seed=4).series[0]
    dense = Session(causal_bundle, precision="float32", top_p=1.0)
    tokens = TokenStream(StepModel.open(causal_bundle, knobs=dense.knobs), 600)
    for k in range(600):
        scores = tokens.push(values[:, k], wants_scores=k == 599)
    near = {"rtol": ENGINES.relative, "atol": ENGINES.absolute}
    np.testing.assert_allclose(scores, dense.predict(values)[0], **near)


def test_a_manifest_that_lies_is_refused(causal_bundle: Bundle, tmp_path: Path) -> None:
    for name, value in (
        ("width", -1),
        ("layers", "2"),
        ("block", "../x"),
        ("history", 1 << 40),
        ("step", None),
    ):
        manifest = json.loads(json.dumps(causal_bundle.manifest))
        manifest["stream"][name] = value
        with pytest.raises(BundleError, match=f"`stream.{name}` in the manifest must be a file or a size"):
            StepModel.open(replace(causal_bundle, manifest=manifest))
    assert open_bundle(causal_bundle.path).manifest["stream"]


def test_sizes_that_would_take_all_memory_are_refused(causal_bundle: Bundle) -> None:
    manifest = json.loads(json.dumps(causal_bundle.manifest))
    manifest["stream"] |= {"layers": 1 << 15, "head_size": 1 << 15, "num_heads": 1 << 15}
    model = StepModel.open(replace(causal_bundle, manifest=manifest))
    with pytest.raises(BundleError, match="must need at most 1024 MB of state"):
        TokenStream(model, 600)


def verdict(bundle: Bundle) -> dict[str, bool]:
    return {check.boundary: check.holds for check in verify(bundle)}


def test_verify_runs_the_step_model(causal_bundle: Bundle) -> None:
    checks = verdict(causal_bundle)
    assert all(checks.values())
    assert {"step load", "step scores"} <= set(checks)


@pytest.mark.parametrize("name", ["model.step.onnx", "model.block.onnx"])
def test_verify_finds_a_step_model_that_says_something_else(
    causal_bundle: Bundle, tmp_path: Path, name: str
) -> None:
    """One weight matrix of the file is another: hashes hold, as for a bundle that was made wrong."""
    copied = open_bundle(shutil.copytree(causal_bundle.path, tmp_path / "copy.edgesparse"))
    model = onnx.load_from_string(copied.read(name))
    weight = max(model.graph.initializer, key=lambda t: int(np.prod(t.dims)))
    values = onnx.numpy_helper.to_array(weight)
    weight.CopyFrom(onnx.numpy_helper.from_array(values[..., ::-1].copy(), weight.name))
    changed = verdict(rewrite_bundle(copied, {name: model.SerializeToString()}, {}))
    assert [boundary for boundary, holds in changed.items() if not holds] == ["step scores"]


def test_verify_finds_a_step_model_that_does_not_load_or_run(causal_bundle: Bundle, tmp_path: Path) -> None:
    copied = open_bundle(shutil.copytree(causal_bundle.path, tmp_path / "copy.edgesparse"))
    lying = rewrite_bundle(copied, {}, {"stream": copied.manifest["stream"] | {"history": 3}})
    (broken,) = (check for check in verify(lying) if not check.holds)
    assert broken.boundary == "step scores"
    assert "model.step.onnx must run on the state that the manifest describes" in broken.detail
    changed = verdict(rewrite_bundle(lying, {"model.step.onnx": b"no model"}, {}))
    assert [boundary for boundary, holds in changed.items() if not holds] == ["step load"]
