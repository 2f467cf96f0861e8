"""What an ONNX file of a bundle states about itself: entries `edgesparse.*` of its `metadata_props`.

Other tools show them (onnxruntime's `get_modelmeta().custom_metadata_map`). They are for people: what runs is
decided by the manifest, and a session leaves them out. Written on the bytes, because a device changes models
without the package onnx.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from edgesparse_runtime.model_check.protobuf_wire import fields, write_field, write_key, write_varint

PREFIX = "edgesparse."
HASH = PREFIX + "sha256"
# Numbers of ModelProto.metadata_props, and of key and value in an entry.
_PROPS, _KEY, _VALUE = 14, 1, 2


def stamp(content: bytes, manifest: Mapping[str, Any]) -> bytes:
    """The model with the entries that fit a manifest; entries that it had before go.

    `edgesparse.sha256` is of the file without entries of ours.
    """
    bare = strip(content)
    entries = {**describe(manifest), HASH: hashlib.sha256(bare).hexdigest()}
    return bare + b"".join(
        write_field(_PROPS, write_field(_KEY, key.encode()) + write_field(_VALUE, value.encode()))
        for key, value in entries.items()
    )


def describe(manifest: Mapping[str, Any]) -> dict[str, str]:
    """Entries without the hash; lists are JSON. A rate is left out where it is not known."""
    channels = manifest["channels"]
    found = {
        "name": str(manifest["name"]),
        "task": str(manifest["task"]),
        "release": str(manifest.get("release", 0)),
        "channels": json.dumps([channel["name"] for channel in channels]),
        "units": json.dumps([channel.get("unit") for channel in channels]),
        "classes": json.dumps(list(manifest["classes"])),
    }
    if period := manifest["input"].get("period"):
        found["rate_hz"] = f"{1 / period:.6g}"
    return {PREFIX + name: value.encode("utf-8", "replace").decode() for name, value in found.items()}


def strip(content: bytes) -> bytes:
    """The model without entries of ours.

    Raises:
        WireError: it is no protobuf message.
    """
    kept = []
    for number, wire, value in fields(memoryview(content)):
        if isinstance(value, int):
            kept.append(write_field(number, value))
        elif wire == 2:
            if number == _PROPS and _entry(value)[0].startswith(PREFIX):
                continue
            kept += [write_key(number, wire), write_varint(len(value)), bytes(value)]
        else:
            kept += [write_key(number, wire), bytes(value)]
    return b"".join(kept)


def read_metadata(content: bytes) -> dict[str, str]:
    """The entries of ours, by their whole keys."""
    props = (v for number, _, v in fields(memoryview(content)) if number == _PROPS)
    entries = (_entry(value) for value in props if isinstance(value, memoryview))
    return {key: value for key, value in entries if key.startswith(PREFIX)}


def _entry(message: memoryview) -> tuple[str, str]:
    found = {_KEY: "", _VALUE: ""}
    for number, _, value in fields(message):
        if isinstance(value, memoryview):
            found[number] = bytes(value).decode("utf-8", "replace")
    return found[_KEY], found[_VALUE]
