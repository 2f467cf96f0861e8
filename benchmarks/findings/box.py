"""A checkout that is attacked: its programs run apart, for a bounded time, with files that are made here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

# Both layouts of the packages have this function.
_WRITE = """
import io, sys
import numpy as np
from pathlib import Path
try:
    from edgesparse_runtime.bundle.write import write_bundle
except ImportError:
    from edgesparse_runtime.bundle import write_bundle
path, model, names = sys.argv[1], Path(sys.argv[2]).read_bytes(), sys.argv[3].split(",")
stream = io.BytesIO()
np.savez(stream, windows=np.zeros((1, 1, 8), np.float32), scores_float32=np.zeros((1, 2), np.float32))
fields = {
    "name": Path(path).stem, "task": "classification", "channels": [{"name": "c"}], "classes": names,
    "input": {"variable_length": False, "shortest": 8, "longest": 8, "least_steps": 1},
    "models": {"float32": {"file": "model.onnx"}},
}
files = {"model.onnx": model, "golden.npz": stream.getvalue(), "card.md": b"x"}
write_bundle(path, files, fields)
"""


class Ended(NamedTuple):
    """How a program ended.

    Attributes:
        code: its exit code; negative for a signal, None when its time was up.
        memory: peak, in MB.
    """

    code: int | None
    out: str
    errors: str
    memory: int

    @property
    def last(self) -> str:
        """Its last line, shortened."""
        lines = (self.out + self.errors).strip().splitlines()
        return lines[-1][:160] if lines else ""


class Outcome(NamedTuple):
    """What an attack came to: whether it succeeded, and in a few words how."""

    succeeds: bool
    what: str


@dataclass(frozen=True)
class Box:
    """One checkout, and a folder for what is made.

    Attributes:
        root: of the checkout; `.venv` is there.
    """

    root: Path
    folder: Path

    @property
    def python(self) -> str:
        return str(self.root / ".venv" / "bin" / "python")

    def run(self, code: str, *args: object, seconds: float = 40, data: bytes | None = None) -> Ended:
        """Run Python code with the packages of the checkout."""
        watched = (
            "import sys\ntry:\n exec(sys.argv.pop(1), {'__name__': '__main__'})\nfinally:\n"
            " rows = [row.split() for row in open('/proc/self/status')]\n"
            " peak = next(int(row[1]) >> 10 for row in rows if row[0] == 'VmHWM:')\n"
            " print(f'\\nPEAK {peak}', file=sys.stderr)\n"
        )
        command = [self.python, "-c", watched, code, *map(str, args)]
        try:
            done = subprocess.run(
                command, cwd=self.folder, env=environment(), input=data, capture_output=True, timeout=seconds
            )
        except subprocess.TimeoutExpired:
            return Ended(None, "", "", 0)
        lines = done.stderr.decode(errors="replace").splitlines()
        peaks = [line for line in lines if line.startswith("PEAK ")]
        errors = "\n".join(line for line in lines if line not in peaks)
        memory = int(peaks[-1].split()[1]) if peaks else 0
        return Ended(done.returncode, done.stdout.decode(errors="replace"), errors, memory)

    def verb(self, *args: object, seconds: float = 60, data: bytes | None = None) -> Ended:
        """Run a verb of `edgesparse`."""
        code = "import sys\nfrom edgesparse_runtime.cli.app import run\nsys.exit(run(sys.argv[1:]))"
        return self.run(code, *args, seconds=seconds, data=data)

    def open(self, content: bytes, name: str, *, seconds: float = 30, runs: bool = True) -> Ended:
        """Open a model, and run it for a window of ones."""
        path = self.folder / f"{name}.onnx"
        path.write_bytes(content)
        code = (
            "import sys, time\nimport numpy as np\nfrom edgesparse_runtime.session import Session\n"
            "start = time.process_time()\n"
            "try:\n    session = Session(sys.argv[1], threads=1)\n"
            "except Exception as error:\n    sys.exit(f'refused: {error}'[:300])\n"
            "print(f'opened in {time.process_time() - start:.1f} s')\n"
        )
        if runs:
            code += "window = {'window': np.ones((1, 1, 8), np.float32)}\n"
            code += "print(*session._session.run(None, window)[0].ravel()[:4])\n"
        return self.run(code, path, seconds=seconds)

    def bundle(self, name: str, model: bytes | None = None, *, classes: str = "a,b", **changes: Any) -> Path:
        """A bundle that the checkout writes, whose manifest is changed afterwards."""
        path, file = self.folder / f"{name}.edgesparse", self.folder / f"{name}.onnx"
        file.write_bytes(tiny_model() if model is None else model)
        made = self.run(_WRITE, path, file, classes)
        if made.code != 0:
            raise RuntimeError(made.last)
        manifest = path / "manifest.json"
        manifest.write_text(json.dumps(json.loads(manifest.read_text()) | changes))
        return path


def environment() -> dict[str, str]:
    """Of every program: one thread."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": ""}


def model_of(nodes: list[onnx.NodeProto], *tensors: onnx.TensorProto, domain: str = "") -> onnx.ModelProto:
    """A model of one channel from `window` to `scores`."""
    window = helper.make_tensor_value_info("window", TensorProto.FLOAT, ["b", 1, "t"])
    scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "graph", [window], [scores], list(tensors))
    opsets = [helper.make_opsetid("", 20)]
    if domain:
        opsets.append(helper.make_opsetid(domain, 1))
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def constant(name: str, value: object, kind: Any = np.float32) -> onnx.TensorProto:
    """A tensor of a model."""
    return numpy_helper.from_array(np.array(value, kind), name)


def tiny_model(kind: int = TensorProto.FLOAT) -> bytes:
    """Scores of two classes from the mean of a window, of the type `kind`."""
    nodes = [
        helper.make_node("ReduceMean", ["window", "axis"], ["mean"], keepdims=0),
        helper.make_node("MatMul", ["mean", "weights"], ["raw"]),
        helper.make_node("Cast", ["raw"], ["scores"], to=kind),
    ]
    model = model_of(nodes, constant("axis", [2], np.int64), constant("weights", [[1, 2]]))
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info("scores", kind, ["b", 2]))
    return bytes(model.SerializeToString())


def note(text: str) -> None:
    """Progress."""
    print(text, file=sys.stderr, flush=True)
