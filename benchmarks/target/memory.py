"""Peak memory that one run adds to a process with the model loaded: int8 sparse against dense float32.

`python -m benchmarks.target.memory` prints this line of `make prove-target` alone, as JSON.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx

from benchmarks.target.models import int8_ours, make_model, walks, whole_model

TOKENS = 8192
# A process of its own, so that nothing but the run adds to the peak. A short run first: what it leaves in the
# arena is not counted as the long one's.
SCRIPT = """
import sys
import numpy as np
from edgesparse_runtime.session import Session
window = np.load(sys.argv[2])
session = Session(sys.argv[1], threads=1)
session.predict(window[..., :256])
def status(name):
    return next(int(x.split()[1]) for x in open("/proc/self/status") if x.startswith(name)) / 1024
open("/proc/self/clear_refs", "w").write("5")
before = status("VmRSS")
session.predict(window)
print(status("VmHWM") - before)
"""


def measure_memory() -> dict[str, float]:
    """Megabytes by model."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        np.save(path / "window.npy", walks(make_model("sparse", TOKENS), TOKENS)[:1].numpy())
        for name in ("dense", "sparse"):
            proto = whole_model(name, TOKENS)
            onnx.save(proto if name == "dense" else int8_ours(proto), path / f"{name}.onnx")
            command = [sys.executable, "-c", SCRIPT, str(path / f"{name}.onnx"), str(path / "window.npy")]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                raise SystemExit(f"The {name} model did not run; {done.stderr.strip().splitlines()[-1]}.")
            found[name] = float(done.stdout)
    return found


if __name__ == "__main__":
    measured = measure_memory()
    print(json.dumps({"tokens": TOKENS, "mb": measured, "share": measured["sparse"] / measured["dense"]}))
