"""Runs stored models with the installed wheel: `python emulated.py FOLDER`, with numpy and onnxruntime alone.

`arm64_wheel` copies this file to where an emulated Python runs it; nothing else of the repository is there.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime

from edgesparse_runtime.engine import register


def main() -> None:
    """Runs each NAME.onnx on NAME.npz; writes outputs.npz and prints engine and version as JSON."""
    folder = Path(sys.argv[1])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    engine = register(options)
    outputs = {}
    for path in sorted(folder.glob("*.onnx")):
        with np.load(path.with_suffix(".npz")) as feeds:
            session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
            outputs[path.stem] = session.run(["output"], dict(feeds))[0]
    np.savez(folder / "outputs.npz", **outputs)
    print(json.dumps({"engine": str(engine), "onnxruntime": onnxruntime.__version__}))


if __name__ == "__main__":
    main()
