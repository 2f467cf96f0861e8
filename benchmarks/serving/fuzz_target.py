"""One fuzzing process for `make prove-serve`: atheris drives a parser of untrusted bytes, guided by coverage.

    python -m benchmarks.serving.fuzz_target KIND CORPUS -runs=50000 -timeout=1 -rss_limit_mb=1024

Anything but an answer or one of our own errors ends it with another exit code than 0: an exception that is
none of ours, a case over `-timeout` seconds, memory over `-rss_limit_mb`, a crash.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import atheris

# An editable install has a finder of its own, and atheris sees no coverage in what that loads:
# it then mutates nothing but a single byte. The sources are on the path (`PYTHONPATH`) as well.
sys.meta_path[:] = [finder for finder in sys.meta_path if "editable" not in type(finder).__module__]

with atheris.instrument_imports(
    include=[
        "edgesparse_runtime.serving.protocol.requests",
        "edgesparse_runtime.serving.protocol.tensors",
        "edgesparse_runtime.model_check.check",
        "edgesparse_runtime.model_check.protobuf_wire",
        "edgesparse_runtime.bundle.manifest",
        "edgesparse_runtime.bundle.source",
        "edgesparse_runtime.bundle.npz",
        "zipfile",
    ]
):
    from edgesparse_runtime.bundle.archive import pack_files
    from edgesparse_runtime.bundle.manifest import parse_manifest
    from edgesparse_runtime.bundle.npz import read_arrays
    from edgesparse_runtime.bundle.read import open_bundle
    from edgesparse_runtime.errors import EdgeSparseError
    from edgesparse_runtime.model_check.check import check_model
    from edgesparse_runtime.serving.protocol.refusal import Refusal
    from edgesparse_runtime.serving.protocol.requests import read_request
    from edgesparse_runtime.serving.protocol.tensors import WindowBounds

BOUNDS = WindowBounds(channels=2, min_steps=1, max_steps=4096, most_windows=8)
Target = Callable[[bytes], object]


def request(content: bytes) -> object:
    """The first byte says how long the JSON is; 0 = all of it."""
    if not content:
        return None
    header = None if content[0] == 0 else str(content[0] * 2)
    return read_request(content[1:], header, BOUNDS, ("scores", "selection.0"))


def model(content: bytes) -> object:
    """An ONNX file."""
    return check_model(content, "model.onnx")


def manifest(content: bytes) -> object:
    """A manifest."""
    return parse_manifest(content, Path("bundle"))


def arrays(content: bytes) -> object:
    """Golden vectors."""
    return read_arrays(content, "golden.npz")


class Archive:
    """A bundle as one file, on a memory file system where there is one."""

    def __init__(self) -> None:
        shared = Path("/dev/shm")
        folder = tempfile.mkdtemp(dir=shared if os.access(shared, os.W_OK) else None)
        self._path = Path(folder) / "x.edgesparse"

    def __call__(self, content: bytes) -> object:
        self._path.write_bytes(content)
        return open_bundle(self._path)


TARGETS: dict[str, Callable[[], Target]] = {
    "request": lambda: request,
    "model": lambda: model,
    "manifest": lambda: manifest,
    "arrays": lambda: arrays,
    "archive": Archive,
}


def main() -> None:
    """Run atheris on the target that the first argument names."""
    if sys.argv[1] == "seeds":
        write_seeds(sys.argv[2], Path(sys.argv[3]))
        return
    target = TARGETS[sys.argv[1]]()

    def one(content: bytes) -> None:
        try:
            target(content)
        except (EdgeSparseError, Refusal) as error:
            if "\n" in str(error):
                raise ValueError(f"an error must be one line; got {error}") from error

    atheris.Setup([sys.argv[0], *sys.argv[2:]], one)
    atheris.Fuzz()


def write_seeds(kind: str, folder: Path) -> None:
    """Good inputs to start from."""
    for i, content in enumerate(_seeds(kind)):
        (folder / f"seed{i}").write_bytes(content)


def _seeds(kind: str) -> list[bytes]:
    import io

    import numpy as np

    from tests.support.hostile_models import HOSTILE, honest

    tensor = {"name": "window", "datatype": "FP32", "shape": [1, 2, 3]}
    if kind == "request":
        plain = {
            "id": "a",
            "parameters": {"binary_data_output": False},
            "inputs": [tensor | {"data": [[[0.5, None, -1e3], [2, 3, 4]]]}],
            "outputs": [{"name": "scores", "parameters": {"binary_data": True}}],
        }
        head = json.dumps({"inputs": [tensor | {"parameters": {"binary_data_size": 24}}]})
        head += " " * (len(head) % 2)
        raw = bytes([len(head) // 2]) + head.encode() + np.arange(6, dtype="<f4").tobytes()
        return [b"\0" + json.dumps(plain).encode(), raw]
    if kind == "model":
        made = [honest().SerializeToString()]
        for name, (change, _) in HOSTILE.items():
            if name not in ("many nodes", "a chain of functions", "a bomb of functions"):
                changed = honest()
                change(changed)
                made.append(changed.SerializeToString())
        return made
    stream = io.BytesIO()
    np.savez(stream, windows=np.zeros((1, 2, 3), np.float32), scores_float32=np.ones((1, 2), np.float32))
    if kind == "arrays":
        return [stream.getvalue()]
    import hashlib

    files = {"model.onnx": honest().SerializeToString(), "golden.npz": stream.getvalue(), "card.md": b"#"}
    fields = {
        "schema_version": 2,
        "edgesparse": "0",
        "created": "2026-01-01T00:00:00Z",
        "name": "x",
        "task": "classification",
        "channels": [{"name": "a", "unit": ""}],
        "classes": ["p", "q"],
        "input": {"variable_length": False, "shortest": 3, "longest": 3, "min_steps": 1},
        "models": {"float32": {"file": "model.onnx"}},
        "dense": {},
        "breakeven": [],
        "files": {n: {"bytes": len(c), "sha256": hashlib.sha256(c).hexdigest()} for n, c in files.items()},
    }
    text = json.dumps(fields).encode()
    return [text] if kind == "manifest" else [pack_files({**files, "manifest.json": text})]


if __name__ == "__main__":
    main()
