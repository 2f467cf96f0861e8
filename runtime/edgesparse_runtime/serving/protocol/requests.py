"""Open Inference Protocol v2, infer: the bytes of a request to a window.

A body is JSON, or (binary tensor data extension) JSON of `Inference-Header-Content-Length` bytes followed by
the raw tensors that it announces with `binary_data_size`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgesparse_runtime.serving.protocol.refusal import Refusal
from edgesparse_runtime.serving.protocol.tensors import (
    FloatArray,
    WindowBounds,
    check_finite,
    read_bytes,
    read_numbers,
)
from edgesparse_runtime.serving.protocol.texts import TextBounds

# Names of JSON types, for a value that should have been a whole number.
_KINDS = {bool: "a truth value", str: "text", float: "not a whole number", list: "a list", dict: "an object"}
_LONGEST_ID = 256
_REQUEST_KEYS = ("id", "inputs", "outputs", "parameters")
_INPUT_KEYS = ("data", "datatype", "name", "parameters", "shape")
_OUTPUT_KEYS = ("name", "parameters")


@dataclass(frozen=True)
class InferRequest:
    """One request to a model.

    Attributes:
        window: float32 [n, channels, steps].
        id: the client's own, returned in the answer; None without one.
        binary: answer in raw bytes, by output name.
        binary_by_default: for an output that `binary` does not name.
        outputs: names that the request selects; empty = all.
        texts: of a model that takes text; `window` is empty then.
        prompt: the name of the prompt to put before each text.
    """

    window: FloatArray
    id: str | None
    binary: Mapping[str, bool]
    binary_by_default: bool
    outputs: tuple[str, ...]
    texts: tuple[str, ...] = ()
    prompt: str | None = None

    @property
    def rows(self) -> int:
        """Windows or texts."""
        return len(self.texts) or len(self.window)

    def wants_binary(self, output: str) -> bool:
        return self.binary.get(output, self.binary_by_default)


def read_request(
    body: bytes | bytearray, header_length: str | None, bounds: WindowBounds, outputs: Sequence[str]
) -> InferRequest:
    """Parse and check one infer request; nothing larger than the body is allocated.

    Args:
        header_length: value of the header `Inference-Header-Content-Length`, None without it.
        bounds: of the model's input.
        outputs: names that the model has.

    Raises:
        Refusal: 400, or 422 where sizes inside the request contradict each other.
    """
    head, tail = _split(body, header_length)
    request = _object(_parse(head), "The request", _REQUEST_KEYS)
    name = request.get("id")
    if name is not None and (not isinstance(name, str) or len(name) > _LONGEST_ID):
        raise Refusal(400, f"`id` must be text of at most {_LONGEST_ID} characters.")
    parameters = _parameters(request, "`parameters`")
    texts: tuple[str, ...] = ()
    prompt = None
    if isinstance(bounds, TextBounds):
        texts, prompt = _read_texts(request.get("inputs"), tail, bounds), bounds.read_prompt(parameters)
        window = np.zeros((0, 0, 0), dtype=np.float32)
    else:
        window = _read_input(request.get("inputs"), tail, bounds)
    binary = _read_outputs(request.get("outputs"), outputs)
    by_default = _flag(parameters, "binary_data_output")
    check_finite(window)
    return InferRequest(window, name, binary, by_default, tuple(binary), texts, prompt)


def _split(body: bytes | bytearray, header_length: str | None) -> tuple[bytes | bytearray, memoryview]:
    if header_length is None:
        return body, memoryview(b"")
    if not (header_length.isascii() and header_length.isdigit() and len(header_length) < 12):
        raise Refusal(400, "`Inference-Header-Content-Length` must be a number of bytes.")
    length = int(header_length)
    if length > len(body):
        raise Refusal(
            400,
            f"`Inference-Header-Content-Length` must be at most the body's {len(body)} bytes; got {length}.",
        )
    return bytes(body[:length]), memoryview(body)[length:]


def _parse(head: bytes | bytearray) -> object:
    """The value of a JSON text in UTF-8 (RFC 8259), whose strings can be written as UTF-8 again."""
    try:
        value = json.loads(head.decode("utf-8-sig"))
        if b"\\u" in head:
            # An escape may be half of a pair; such text cannot be encoded, in an answer or a log.
            json.dumps(value, ensure_ascii=False).encode()
        return value
    except UnicodeEncodeError:
        raise Refusal(400, "The request must hold valid Unicode; got half of a surrogate pair.") from None
    except RecursionError:
        raise Refusal(400, "The request must be JSON that is not nested so deeply.") from None
    except (UnicodeDecodeError, ValueError) as error:
        raise Refusal(400, f"The request must be JSON in UTF-8; {_cut(str(error))}.") from None


def _object(value: object, subject: str, keys: Sequence[str] | None = None) -> dict[str, Any]:
    """`value`, an object with no other keys than `keys`; the protocol's `parameters` are open, None = any."""
    if not isinstance(value, dict):
        raise Refusal(400, f"{subject} must be a JSON object.")
    if keys is not None and not value.keys() <= set(keys):
        unknown = min(value.keys() - set(keys))
        raise Refusal(400, f"{subject} must hold {', '.join(keys)} only; got {_cut(unknown)}.")
    return value


def _parameters(owner: Mapping[str, Any], subject: str) -> dict[str, Any]:
    """Its `parameters`; some clients write null for none."""
    value = owner.get("parameters")
    return {} if value is None else _object(value, subject)


def _flag(parameters: Mapping[str, Any], name: str) -> bool:
    value = parameters.get(name, False)
    if not isinstance(value, bool):
        raise Refusal(400, f"`{name}` must be true or false.")
    return value


def _read_texts(inputs: object, tail: memoryview, bounds: TextBounds) -> tuple[str, ...]:
    if not isinstance(inputs, list) or len(inputs) != 1:
        raise Refusal(400, "`inputs` must be a list of one tensor, `text`.")
    if len(tail):
        raise Refusal(400, "Texts must be sent as JSON; raw bytes follow it.")
    return bounds.read(_object(inputs[0], "A tensor of `inputs`", _INPUT_KEYS))


def _read_input(inputs: object, tail: memoryview, bounds: WindowBounds) -> FloatArray:
    if not isinstance(inputs, list) or len(inputs) != 1:
        raise Refusal(400, "`inputs` must be a list of one tensor, `window`.")
    tensor = _object(inputs[0], "A tensor of `inputs`", _INPUT_KEYS)
    if tensor.get("name") != "window":
        raise Refusal(400, f"The input's name must be `window`; got {_cut(str(tensor.get('name')))}.")
    if tensor.get("datatype") != "FP32":
        raise Refusal(
            400, f"Input `window` must be of datatype FP32; got {_cut(str(tensor.get('datatype')))}."
        )
    shape = bounds.check_shape(tensor.get("shape"))
    parameters = _parameters(tensor, "`parameters` of input `window`")
    size = parameters.get("binary_data_size")
    if size is None:
        if len(tail):
            raise Refusal(400, "Raw bytes follow the JSON, but no input announces `binary_data_size`.")
        return read_numbers(tensor.get("data"), shape)
    if "data" in tensor:
        raise Refusal(400, "An input must have `data` or `binary_data_size`, not both.")
    if type(size) is not int:
        kind = _KINDS[type(size)]
        raise Refusal(
            400, f"`binary_data_size` must be a whole number of bytes; got {_cut(json.dumps(size))}, {kind}."
        )
    wanted = 4 * math.prod(shape)
    if size != wanted or len(tail) != wanted:
        raise Refusal(
            422,
            f"`binary_data_size` must be {wanted} for shape {list(shape)} of FP32, and as many bytes must "
            f"follow the JSON; got {_cut(str(size))} and {len(tail)} bytes.",
        )
    return read_bytes(tail, shape)


def _read_outputs(outputs: object, known: Sequence[str]) -> dict[str, bool]:
    if outputs is None:
        return {}
    if not isinstance(outputs, list) or len(outputs) > len(known):
        raise Refusal(400, f"`outputs` must be a list of at most {len(known)} outputs.")
    binary: dict[str, bool] = {}
    for value in outputs:
        output = _object(value, "An entry of `outputs`", _OUTPUT_KEYS)
        name = output.get("name")
        if not isinstance(name, str) or name not in known:
            raise Refusal(400, f"An output's name must be one of {', '.join(known)}; got {_cut(str(name))}.")
        parameters = _parameters(output, f"`parameters` of output `{name}`")
        classes = parameters.get("classification", 0)
        if isinstance(classes, bool) or classes != 0:
            raise Refusal(
                400, "`classification` is not supported; the metadata names the classes of `scores`."
            )
        binary[name] = _flag(parameters, "binary_data")
    return binary


def _cut(text: str) -> str:
    return text if len(text) <= 80 else text[:77] + "..."
