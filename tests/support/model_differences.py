"""What of an ONNX model is passed on to onnxruntime, as the official package reads it."""

from __future__ import annotations

from google.protobuf.message import Message

# Documentation, which the writer leaves out.
_DROPPED = {"doc_string", "producer_name", "producer_version", "quantization_annotation", "denotation"}


def kept_parts(message: Message) -> bytes:
    """The message without documentation, in the official package's own form."""
    copy = type(message)()
    copy.CopyFrom(message)
    _clear(copy)
    content: bytes = copy.SerializeToString(deterministic=True)
    return content


def _clear(message: Message) -> None:
    kind = message.DESCRIPTOR.name
    for field, value in message.ListFields():
        is_onnx = field.name == "domain" and value in ("", "ai.onnx")
        is_metadata = field.name == "metadata_props" and kind != "NodeProto"
        if field.name in _DROPPED or is_onnx or is_metadata or (kind, field.name) == ("ModelProto", "domain"):
            message.ClearField(field.name)
        elif field.message_type is not None:
            for inner in value if field.is_repeated else [value]:
                _clear(inner)
