"""Rule for tensors: what the dimensions claim lies in the file, no more and no less."""

from __future__ import annotations

import math

from edgesparse_runtime.model_check.limits import RuleError, cut
from edgesparse_runtime.model_check.parse import Record, count_numbers

_MOST_DIMENSIONS = 16
_STRINGS = 8
# Bytes of an element of each ONNX data type in `raw_data`; halves are types of four bits.
ELEMENT_BYTES: dict[int, float] = {
    **dict.fromkeys((2, 3, 9, 17, 18, 19, 20, 24), 1.0),
    **dict.fromkeys((4, 5, 10, 16), 2.0),
    **dict.fromkeys((1, 6, 12), 4.0),
    **dict.fromkeys((7, 11, 13, 14), 8.0),
    **dict.fromkeys((21, 22, 23), 0.5),
    15: 16.0,
}
# Where elements lie that are not in `raw_data`, and how many numbers each takes.
_TYPED: dict[int, tuple[str, float]] = {
    1: ("float_data", 1),
    7: ("int64_data", 1),
    11: ("double_data", 1),
    12: ("uint64_data", 1),
    13: ("uint64_data", 1),
    14: ("float_data", 2),
    15: ("double_data", 2),
    **dict.fromkeys((2, 3, 4, 5, 6, 9, 10, 16, 17, 18, 19, 20, 24), ("int32_data", 1)),
    **dict.fromkeys((21, 22, 23), ("int32_data", 0.5)),
}


def check_tensor(tensor: Record) -> int:
    """Holds a tensor against the rule.

    Returns:
        Its size in bytes.

    Raises:
        RuleError: it claims more or less than it holds, names another file, or is of an unknown type.
    """
    kind, dimensions = tensor.get("data_type", 0), tensor.get("dims", [])
    if len(dimensions) > _MOST_DIMENSIONS:
        raise RuleError(f"hold tensors of at most {_MOST_DIMENSIONS} dimensions")
    if tensor.get("data_location", 0) != 0:
        raise RuleError("hold its tensors itself; one names another file")
    elements = math.prod(dimensions)
    if kind == _STRINGS:
        texts = tensor.get("string_data", [])
        _compare(elements, len(texts), len(texts) == elements)
        return sum(map(len, texts))
    if kind not in ELEMENT_BYTES:
        raise RuleError(f"hold tensors of known types; got type {kind}")
    size = math.ceil(elements * ELEMENT_BYTES[kind])
    if "raw_data" in tensor:
        raw = len(tensor["raw_data"])
        _compare(elements, f"{raw} bytes", raw == size)
        return size
    field, numbers = _TYPED[kind]
    stored = count_numbers(field, tensor.get(field, []))
    _compare(elements, stored, stored == math.ceil(elements * numbers))
    return size


def _compare(elements: int, stored: object, fits: bool) -> None:
    if not fits:
        raise RuleError(f"hold {cut(str(elements))} elements for a tensor's shape; it holds {stored}")
