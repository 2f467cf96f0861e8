"""The linear head of an exported classifier: read, taken off and replaced without an ONNX package.

Exported models end in pooled features -> Gemm -> scores, with a division by the temperature where one was
fitted, and a softmax. The head stays float32 in int8 models and dense twins, so one fit serves them all.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgesparse_runtime.arrays import DoubleArray, FloatArray
from edgesparse_runtime.errors import BundleError, InputError
from edgesparse_runtime.model_check.check import check_model
from edgesparse_runtime.model_check.limits import limits_of
from edgesparse_runtime.model_check.parse import Parser, Record
from edgesparse_runtime.model_check.write import write_message

_FLOAT = 1


@dataclass(frozen=True)
class Head:
    """Logits = features @ weight.T + bias, the temperature included.

    Attributes:
        weight: [classes, features].
        bias: [classes].
    """

    weight: DoubleArray
    bias: DoubleArray

    def logits(self, features_NF: DoubleArray) -> DoubleArray:
        return np.asarray(features_NF @ self.weight.T + self.bias)


@dataclass(frozen=True)
class _Place:
    """Where the head lies in a graph."""

    model: Record
    nodes: list[Record]
    features: str
    weight: Record
    bias: Record
    divisor: float


def read_head(content: bytes, name: str) -> Head:
    """The head of a model file.

    Raises:
        InputError: the model does not end in one.
    """
    place = _find(content, name)
    weight, bias = (
        _values(tensor).astype(np.float64) / place.divisor for tensor in (place.weight, place.bias)
    )
    return Head(weight, bias)


def without_head(content: bytes, name: str) -> bytes:
    """The same model, whose scores are the pooled features [batch, features].

    Raises:
        InputError: as `read_head`.
    """
    place = _find(content, name)
    graph = place.model["graph"]
    graph["node"] = [node for node in graph["node"] if not any(node is own for own in place.nodes)]
    graph["node"].append({"op_type": "Identity", "input": [place.features], "output": ["scores"]})
    (output,) = [value for value in graph["output"] if value["name"] == "scores"]
    shape = output["type"]["tensor_type"]["shape"]
    shape["dim"] = [shape["dim"][0], {"dim_value": place.weight["dims"][1]}]
    graph["initializer"] = [t for t in graph["initializer"] if t is not place.weight and t is not place.bias]
    return check_model(write_message(place.model, "Model"), name).content


def with_head(content: bytes, head: Head, name: str) -> bytes:
    """The same model with another head.

    Raises:
        InputError: as `read_head`, or the head has another shape.
    """
    place = _find(content, name)
    for tensor, values in ((place.weight, head.weight), (place.bias, head.bias)):
        if list(values.shape) != list(tensor["dims"]):
            raise InputError(
                f"{name}: a head must have shape {list(tensor['dims'])}; got {list(values.shape)}."
            )
        kept = {key: tensor[key] for key in ("dims", "data_type", "name")}
        tensor.clear()
        tensor.update(kept, raw_data=(values * place.divisor).astype("<f4").tobytes())
    return check_model(write_message(place.model, "Model"), name).content


def _find(content: bytes, name: str) -> _Place:
    checked = check_model(content, name).content
    model = Parser(limits_of(len(checked))).parse(memoryview(checked), "Model")
    graph = model["graph"]
    made = {output: node for node in graph["node"] for output in node.get("output", ())}
    tensors = {tensor["name"]: tensor for tensor in graph.get("initializer", ())}
    softmax = made.get("scores", {})
    nodes, divisor = [softmax], 1.0
    last = made.get(softmax["input"][0], {}) if softmax.get("op_type") == "Softmax" else {}
    if last.get("op_type") in ("Div", "Mul") and last["input"][1] in tensors:
        factor = _values(tensors[last["input"][1]])
        if factor.size == 1 and float(factor.ravel()[0]) > 0:
            value = float(factor.ravel()[0])
            divisor = value if last["op_type"] == "Div" else 1 / value
            nodes.append(last)
            last = made.get(last["input"][0], {})
    inputs = last.get("input", ())
    is_head = last.get("op_type") == "Gemm" and len(inputs) == 3 and {*inputs[1:]} <= tensors.keys()
    if not is_head or not _is_plain(last) or _is_shared(graph, [*nodes, last]):
        raise InputError(
            f"{name} must be a classifier that ends in one linear layer for its head to be changed; causal "
            "models and regressions do not. Train it again on old and new data with edgesparse train."
        )
    weight, bias = (tensors[key] for key in inputs[1:])
    if weight.get("data_type") != _FLOAT or len(weight.get("dims", ())) != 2:
        raise BundleError(f"{name}: the head's weights must be float32. Export it again.")
    return _Place(model, [*nodes, last], inputs[0], weight, bias, divisor)


def _is_plain(gemm: Record) -> bool:
    """Is it x @ weight.T + bias?"""
    found: dict[str, float] = {}
    for attribute in gemm.get("attribute", ()):
        is_float = attribute["name"] in ("alpha", "beta")
        value = attribute.get("f" if is_float else "i", 0)
        found[attribute["name"]] = _to_float(value) if is_float else float(value)
    return (
        found.get("transB") == 1
        and not found.get("transA")
        and {
            found.get("alpha", 1.0),
            found.get("beta", 1.0),
        }
        == {1.0}
    )


def _to_float(stored: object) -> float:
    """A float as the parser keeps it: four bytes."""
    return float(np.frombuffer(bytes(stored), dtype="<f4")[0]) if not isinstance(stored, float) else stored  # type: ignore[call-overload]


def _is_shared(graph: Record, nodes: list[Record]) -> bool:
    """Does anything else use what lies inside the head?"""
    inside = {output for node in nodes[1:] for output in node.get("output", ())}
    others = [node for node in graph["node"] if not any(node is own for own in nodes)]
    return any(name in inside for node in others for name in node.get("input", ()))


def _values(tensor: Record) -> FloatArray:
    if "raw_data" in tensor:
        found = np.frombuffer(bytes(tensor["raw_data"]), dtype="<f4")
    else:
        found = np.frombuffer(b"".join(bytes(part) for part in tensor["float_data"]), dtype="<f4")
    return np.asarray(found.reshape([int(size) for size in tensor.get("dims", ())]))
