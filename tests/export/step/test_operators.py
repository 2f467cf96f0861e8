"""`TokenStep` and `CloseBlock`: the kernel, the function body and the naive twin say the same."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from edgesparse.config import ModelConfig
from edgesparse_export.step.files import step_fields, step_files
from edgesparse_export.step.operators import step_parameters
from edgesparse_export.step.token_program import StepProgram
from edgesparse_runtime.engine import ENGINE_VARIABLE, find_engine, get_library_path
from edgesparse_runtime.errors import BundleError
from edgesparse_runtime.stream.step.binding import Memory
from edgesparse_runtime.stream.step.token_stream import StepFacts, StepModel, TokenStream
from tests.export.step.test_files import BASE, make_model
from tests.support.tolerances import ENGINES

needs_kernels = pytest.mark.skipif(get_library_path() is None, reason="the operator library is not installed")
CASES = [
    ({}, 0.5, None),
    ({"window": 2, "value_filter": 0, "num_heads": 4}, 0.9, 2),
    ({"summaries": False, "patch": 1, "dilations": (1, 2, 5), "thresholds": 3}, 0.3, None),
    ({"block_size": 5, "layers": 1, "width": 12}, 0.0, 1),
]


@cache
def open_files(config: ModelConfig, top_p: float, groups: int | None) -> tuple[StepFacts, bytes, bytes]:
    model = make_model(config, top_p, groups)
    step, block = step_files(model, lambda x: x.softmax(-1))
    return StepFacts("step", "block", **step_fields(model)), step, block


def run_all(
    facts: StepFacts, step: bytes, block: bytes, window: np.ndarray
) -> tuple[np.ndarray, list[list[np.ndarray]]]:
    """The scores at every sample, and what each closed block gave."""
    model = StepModel(facts, step, block, channels=len(window))
    blocks: list[list[np.ndarray]] = []
    run = model.run_block

    def keep(feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
        blocks.append(run(feeds))
        return blocks[-1]

    model.run_block = keep  # type: ignore[method-assign]
    stream = TokenStream(model, window.shape[1])
    return np.stack([stream.push(x) for x in window.T]), blocks


@needs_kernels
@pytest.mark.parametrize(("change", "top_p", "groups"), CASES)
def test_the_kernels_equal_their_bodies(
    monkeypatch: pytest.MonkeyPatch, change: dict[str, object], top_p: float, groups: int | None
) -> None:
    files = open_files(replace(BASE, **change), top_p, groups)  # type: ignore[arg-type]
    window = torch.randn(3, 150, generator=torch.Generator().manual_seed(1)).cumsum(-1).numpy()
    window[1, 40:60] = np.nan
    monkeypatch.setenv(ENGINE_VARIABLE, "native")
    actual, closed = run_all(*files, window)
    monkeypatch.setenv(ENGINE_VARIABLE, "body")
    assert find_engine().isa is None
    expected, by_body = run_all(*files, window)
    near = {"rtol": ENGINES.relative, "atol": ENGINES.absolute}
    np.testing.assert_allclose(actual, expected, **near)
    assert len(closed) == len(by_body) > 1
    for ours, theirs in zip(closed, by_body, strict=True):
        for i in (3, 4, 5):
            np.testing.assert_allclose(ours[i], theirs[i], **near)
        # Which tokens, in whatever order: the sums of their weights, and of their weighted keys and values.
        assert ours[2].shape == theirs[2].shape
        weight, weight_of_body = np.exp(ours[2]), np.exp(theirs[2])
        np.testing.assert_allclose(weight.sum(-1), weight_of_body.sum(-1), rtol=1e-5)
        for i in (0, 1):
            np.testing.assert_allclose(weight @ ours[i], weight_of_body @ theirs[i], rtol=1e-4, atol=1e-3)


@needs_kernels
def test_the_files_are_one_call_each(monkeypatch: pytest.MonkeyPatch) -> None:
    _, step, block = open_files(BASE, 0.5, None)
    for content, name in ((step, "TokenStep"), (block, "CloseBlock")):
        model = onnx.load_from_string(content)
        onnx.checker.check_model(model)
        assert [f.name for f in model.functions] == [name]
        assert [n.op_type for n in model.graph.node if n.domain == "edgesparse"] == [name]
        assert len(model.graph.node) <= 6


def native(content: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.register_custom_ops_library(get_library_path())
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


@needs_kernels
@pytest.mark.parametrize(
    ("name", "shape", "words"),
    [
        ("history", (3, 31), "Input `history` must have 32 along axis 1; got 31"),
        ("token_sum", (15,), "Input `token_sum` must have 16 along axis 0; got 15"),
        ("past_value", (2, 4, 3, 4), "Input `past_value` must have 1 along axis 2; got 3"),
        ("block_value", (2, 4, 2, 4), "Input `block_value` must have 0 along axis 2; got 2"),
        ("past_bias", (2, 4, 2, 1), "Input `past_bias` must have 1 along axis 2; got 2"),
    ],
)
def test_state_that_does_not_fit_is_refused(name: str, shape: tuple[int, ...], words: str) -> None:
    _, step, _ = open_files(BASE, 0.5, None)
    model = onnx.load_from_string(step)
    for value in model.graph.input:  # else onnxruntime itself refuses
        for axis in value.type.tensor_type.shape.dim:
            axis.Clear()
    feeds = {
        "samples": (3, 4), "history": (3, 32), "token_sum": (16,), "token_count": (1,),
        "value_tail": (2, 4, 16), "block_key": (2, 4, 0, 4), "block_value": (2, 4, 0, 4),
        "past_key": (2, 4, 1, 4), "past_value": (2, 4, 1, 4), "past_bias": (2, 4, 1, 1),
    }  # fmt: skip
    session = native(model.SerializeToString())
    session.run(None, {key: np.zeros(value, np.float32) for key, value in feeds.items()})
    feeds[name] = shape
    with pytest.raises(Exception, match=r".") as raised:
        session.run(None, {key: np.zeros(value, np.float32) for key, value in feeds.items()})
    assert words in str(raised.value)


@needs_kernels
def test_parameters_of_another_length_are_refused() -> None:
    _, step, _ = open_files(BASE, 0.5, None)
    model = onnx.load_from_string(step)
    count = step_parameters(StepProgram(make_model(BASE, 0.5, None))).numel()
    stored = next(x for x in model.graph.initializer if list(x.dims) == [count])
    stored.CopyFrom(onnx.numpy_helper.from_array(np.zeros(count - 1, np.float32), stored.name))
    facts = StepFacts("step", "block", **step_fields(make_model(BASE, 0.5, None)))
    with pytest.raises(BundleError, match=f"`parameters` must have {count} along axis 0; got {count - 1}"):
        TokenStream(StepModel(facts, model.SerializeToString(), step, channels=3), 40).push(np.zeros(3))


def test_a_file_with_other_outputs_is_refused() -> None:
    """Outputs go straight to memory of ours: a file must not write past it."""
    facts, step, block = open_files(BASE, 0.5, None)
    wider = replace(facts, width=24)
    with pytest.raises(BundleError, match="must run on the state that the manifest describes"):
        TokenStream(StepModel(wider, step, block, channels=3), 40).push(np.zeros(3))
    model = onnx.load_from_string(step)
    names = {output.name: output for output in model.graph.output}
    names["token"].type.tensor_type.elem_type = onnx.TensorProto.DOUBLE
    for node in model.graph.node:
        for i, name in enumerate(node.output):
            if name == "token":
                node.output[i] = "token_narrow"
    model.graph.node.append(
        onnx.helper.make_node("Cast", ["token_narrow"], ["token"], to=onnx.TensorProto.DOUBLE)
    )
    with pytest.raises(BundleError, match="must run on the state that the manifest describes"):
        TokenStream(StepModel(facts, model.SerializeToString(), block, channels=3), 40).push(np.zeros(3))


@pytest.mark.parametrize("change", ["type", "count", "shape"])
def test_a_block_file_with_other_outputs_is_refused(change: str) -> None:
    facts, step, block = open_files(BASE, 0.5, None)
    model = onnx.load_from_string(block)
    outputs = {output.name: output for output in model.graph.output}
    if change == "count":
        model.graph.output.remove(outputs["route_key"])
    else:
        name = "past_key" if change == "type" else "mean_key"
        for node in model.graph.node:
            for i, output in enumerate(node.output):
                if output == name:
                    node.output[i] = "as_it_was"
        if change == "type":
            outputs[name].type.tensor_type.elem_type = onnx.TensorProto.DOUBLE
            made = onnx.helper.make_node("Cast", ["as_it_was"], [name], to=onnx.TensorProto.DOUBLE)
        else:
            outputs[name].type.tensor_type.ClearField("shape")
            made = onnx.helper.make_node("Concat", ["as_it_was", "as_it_was"], [name], axis=0)
        model.graph.node.append(made)
    stream = TokenStream(StepModel(facts, step, model.SerializeToString(), channels=3), 40)
    for _ in range(BASE.patch * BASE.block_size - 1):  # type: ignore[operator]
        stream.push(np.zeros(3))
    with pytest.raises(BundleError, match="block must give six float32 tensors"):
        stream.push(np.zeros(3))


def test_tokens_too_long_for_memory_are_refused() -> None:
    facts, step, block = open_files(BASE, 0.5, None)
    long = replace(facts, steps_per_token=1 << 15)
    with pytest.raises(BundleError, match="must need at most 1024 MB of state"):
        TokenStream(StepModel(long, step, block, channels=3), 40)


def test_only_whole_memory_is_bound() -> None:
    with pytest.raises(ValueError, match="float32 and lie in one piece"):
        Memory.of(np.zeros((4, 6), np.float32)[:, ::2])
    with pytest.raises(ValueError, match="float32 and lie in one piece"):
        Memory.of(np.zeros(4))
