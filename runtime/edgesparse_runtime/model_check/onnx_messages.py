"""The messages of an ONNX file: every field by number, with its kind and what is done with it.

Numbers are those of onnx.proto. A field that is not listed is refused: whoever reads the file with another
table might see another model.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, auto

from edgesparse_runtime.model_check.protobuf_wire import BYTES, FIXED32, FIXED64, VARINT


class Kind(Enum):
    """What a field holds."""

    INT32 = auto()
    INT64 = auto()
    FLOAT = auto()
    DOUBLE = auto()
    TEXT = auto()
    DATA = auto()
    MESSAGE = auto()


class Use(Enum):
    """What happens to a field."""

    KEPT = auto()
    # Read, held against its kind, and not written: documentation.
    DROPPED = auto()
    REFUSED = auto()


WIRE_TYPES = {
    Kind.INT32: VARINT,
    Kind.INT64: VARINT,
    Kind.FLOAT: FIXED32,
    Kind.DOUBLE: FIXED64,
    Kind.TEXT: BYTES,
    Kind.DATA: BYTES,
    Kind.MESSAGE: BYTES,
}


@dataclass(frozen=True)
class Field:
    """One field of a message.

    Attributes:
        is_list: it may come any number of times; every other field comes at most once.
        is_packed: a list of numbers that is written as one run of bytes.
        message: of a field of kind MESSAGE, the name of its message.
        use: what happens to it.
        refusal: of a refused field, the rest of a sentence that begins `FILE must`.
    """

    number: int
    name: str
    kind: Kind
    is_list: bool = False
    is_packed: bool = False
    message: str = ""
    use: Use = Use.KEPT
    refusal: str = ""


@dataclass(frozen=True)
class Message:
    """A message type; `choice` are fields of which at most one may be there."""

    name: str
    fields: tuple[Field, ...]
    choice: frozenset[str] = frozenset()
    by_number: dict[int, Field] = field(init=False, compare=False)
    by_name: dict[str, Field] = field(init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "by_number", {f.number: f for f in self.fields})
        object.__setattr__(self, "by_name", {f.name: f for f in self.fields})


def _int32(number: int, name: str) -> Field:
    return Field(number, name, Kind.INT32)


def _int64(number: int, name: str, *, is_list: bool = False) -> Field:
    return Field(number, name, Kind.INT64, is_list)


def _text(number: int, name: str, *, is_list: bool = False) -> Field:
    return Field(number, name, Kind.TEXT, is_list)


def _message(number: int, name: str, message: str, *, is_list: bool = False) -> Field:
    return Field(number, name, Kind.MESSAGE, is_list, message=message)


def _packed(number: int, name: str, kind: Kind) -> Field:
    return Field(number, name, kind, is_list=True, is_packed=True)


def _dropped(number: int, name: str) -> Field:
    return Field(number, name, Kind.DATA, use=Use.DROPPED)


def _dropped_message(number: int, name: str, message: str) -> Field:
    return Field(number, name, Kind.MESSAGE, is_list=True, message=message, use=Use.DROPPED)


def _refused(number: int, name: str, refusal: str) -> Field:
    return Field(number, name, Kind.DATA, is_list=True, use=Use.REFUSED, refusal=refusal)


_DOCUMENTATION = "doc_string"
_METADATA = "metadata_props"
_NO_SPARSE = "hold no sparse tensors"
_ONLY_TENSORS = "take and return tensors only"

MESSAGES: dict[str, Message] = {
    message.name: message
    for message in (
        Message(
            "Model",
            (
                _int64(1, "ir_version"),
                _dropped(2, "producer_name"),
                _dropped(3, "producer_version"),
                _dropped(4, "domain"),
                _int64(5, "model_version"),
                _dropped(6, _DOCUMENTATION),
                _message(7, "graph", "Graph"),
                _message(8, "opset_import", "Opset", is_list=True),
                _dropped_message(14, _METADATA, "Entry"),
                _refused(20, "training_info", "hold no training part"),
                _message(25, "functions", "Function", is_list=True),
                _refused(26, "configuration", "name no devices"),
            ),
        ),
        Message("Opset", (_text(1, "domain"), _int64(2, "version"))),
        Message(
            "Graph",
            (
                _message(1, "node", "Node", is_list=True),
                _text(2, "name"),
                _message(5, "initializer", "Tensor", is_list=True),
                _dropped(10, _DOCUMENTATION),
                _message(11, "input", "Value", is_list=True),
                _message(12, "output", "Value", is_list=True),
                _message(13, "value_info", "Value", is_list=True),
                _dropped_message(14, "quantization_annotation", "Annotation"),
                _refused(15, "sparse_initializer", _NO_SPARSE),
                _dropped_message(16, _METADATA, "Entry"),
            ),
        ),
        Message(
            "Node",
            (
                _text(1, "input", is_list=True),
                _text(2, "output", is_list=True),
                _text(3, "name"),
                _text(4, "op_type"),
                _message(5, "attribute", "Attribute", is_list=True),
                _dropped(6, _DOCUMENTATION),
                _text(7, "domain"),
                _text(8, "overload"),
                _message(9, _METADATA, "Entry", is_list=True),
                _refused(10, "device_configurations", "name no devices"),
            ),
        ),
        # The exporter's names of modules; whatever else stands there is bounded by the file.
        Message("Entry", (Field(1, "key", Kind.DATA), Field(2, "value", Kind.DATA))),
        Message(
            "Annotation",
            (
                Field(1, "tensor_name", Kind.DATA),
                _message(2, "quant_parameter_tensor_names", "Entry", is_list=True),
            ),
        ),
        Message(
            "Attribute",
            (
                _text(1, "name"),
                Field(2, "f", Kind.FLOAT),
                _int64(3, "i"),
                Field(4, "s", Kind.DATA),
                _message(5, "t", "Tensor"),
                _message(6, "g", "Graph"),
                Field(7, "floats", Kind.FLOAT, is_list=True),
                _int64(8, "ints", is_list=True),
                Field(9, "strings", Kind.DATA, is_list=True),
                _message(10, "tensors", "Tensor", is_list=True),
                _message(11, "graphs", "Graph", is_list=True),
                _dropped(13, _DOCUMENTATION),
                _refused(14, "tp", _ONLY_TENSORS),
                _refused(15, "type_protos", _ONLY_TENSORS),
                _int32(20, "type"),
                _text(21, "ref_attr_name"),
                _refused(22, "sparse_tensor", _NO_SPARSE),
                _refused(23, "sparse_tensors", _NO_SPARSE),
            ),
            choice=frozenset({"f", "i", "s", "t", "g", "floats", "ints", "strings", "tensors", "graphs"}),
        ),
        Message(
            "Tensor",
            (
                _int64(1, "dims", is_list=True),
                _int32(2, "data_type"),
                _refused(3, "segment", "hold its tensors whole; one is a segment"),
                _packed(4, "float_data", Kind.FLOAT),
                _packed(5, "int32_data", Kind.INT32),
                Field(6, "string_data", Kind.DATA, is_list=True),
                _packed(7, "int64_data", Kind.INT64),
                _text(8, "name"),
                Field(9, "raw_data", Kind.DATA),
                _packed(10, "double_data", Kind.DOUBLE),
                _packed(11, "uint64_data", Kind.INT64),
                _dropped(12, _DOCUMENTATION),
                _refused(13, "external_data", "hold its tensors itself; one names another file"),
                _int32(14, "data_location"),
                _dropped_message(16, _METADATA, "Entry"),
            ),
            choice=frozenset(
                {
                    "float_data",
                    "int32_data",
                    "string_data",
                    "int64_data",
                    "raw_data",
                    "double_data",
                    "uint64_data",
                }
            ),
        ),
        Message(
            "Value",
            (
                _text(1, "name"),
                _message(2, "type", "Type"),
                _dropped(3, _DOCUMENTATION),
                _dropped_message(4, _METADATA, "Entry"),
            ),
        ),
        Message(
            "Type",
            (
                _message(1, "tensor_type", "TensorType"),
                _refused(4, "sequence_type", _ONLY_TENSORS),
                _refused(5, "map_type", _ONLY_TENSORS),
                _dropped(6, "denotation"),
                _refused(7, "opaque_type", _ONLY_TENSORS),
                _refused(8, "sparse_tensor_type", _NO_SPARSE),
                _refused(9, "optional_type", _ONLY_TENSORS),
            ),
        ),
        Message("TensorType", (_int32(1, "elem_type"), _message(2, "shape", "Shape"))),
        Message("Shape", (_message(1, "dim", "Dimension", is_list=True),)),
        Message(
            "Dimension",
            (_int64(1, "dim_value"), _text(2, "dim_param"), _dropped(3, "denotation")),
            choice=frozenset({"dim_value", "dim_param"}),
        ),
        Message(
            "Function",
            (
                _text(1, "name"),
                _text(4, "input", is_list=True),
                _text(5, "output", is_list=True),
                _text(6, "attribute", is_list=True),
                _message(7, "node", "Node", is_list=True),
                _dropped(8, _DOCUMENTATION),
                _message(9, "opset_import", "Opset", is_list=True),
                _text(10, "domain"),
                _message(11, "attribute_proto", "Attribute", is_list=True),
                _message(12, "value_info", "Value", is_list=True),
                _text(13, "overload"),
                _dropped_message(14, _METADATA, "Entry"),
            ),
        ),
    )
}
