"""What int8 decides otherwise than float32 on test data; and golden vectors on every instruction set.

The models are the default recipe, one seed a set, trained on the archive's own split.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.learning.data import SETS, MissingPackage, load
from benchmarks.support.import_closure import PACKAGES, ROOT, hash_code, import_closure
from edgesparse.config import RunConfig, resolve_config
from edgesparse.training.run_folder import Run, load_run
from edgesparse.training.train import train
from edgesparse_export.quantize.bundle import quantize_bundle
from edgesparse_export.quantize.gate import QuantizationGate, selection_overlap, share
from edgesparse_export.run_bundle import export_run
from edgesparse_runtime.bundle.read import Bundle, open_bundle
from edgesparse_runtime.data.series_set import SeriesSet
from edgesparse_runtime.session import Session
from tests.support.kernels.isas import ISA_FLAGS

GOLDEN = """
import json, sys
import numpy as np
from edgesparse_runtime.bundle.read import open_bundle
from edgesparse_runtime.session import Session
bundle = open_bundle(sys.argv[1])
found = {}
for precision in bundle.precisions:
    session = Session(bundle, precision=precision, threads=1)
    scores = session.predict(bundle.golden()["windows"])
    decisions = scores.argmax(-1).tolist()
    found[precision] = {"engine": session.engine, "decisions": decisions, "scores": scores.tolist()}
print(json.dumps(found))
"""


def make_bundle(name: str, folder: Path, settings: list[str]) -> Bundle:
    """The set's model as a bundle with int8; kept in `folder`.

    Raises:
        MissingPackage: the set's package is not installed.
    """
    path = folder / f"{name}.edgesparse"
    if path.exists():
        return open_bundle(path)
    training, _ = load(name)
    bundle, _ = export_run(trained(name, training, folder.parent, settings), path, data=training)
    # No gate: what it costs is what is measured.
    return quantize_bundle(bundle, data=training, max_drop=1.0)[0]


def trained(name: str, training: SeriesSet, folder: Path, settings: list[str]) -> Run:
    """The set's training run, kept in `folder` for as long as the trainer's code is the same."""
    steps = SETS[name].max_steps
    most = [] if steps is None else [f"training.max_steps={steps}"]
    overrides = ["training.threads=1", *most, *settings]
    key = hashlib.sha256(repr((overrides, trainer_version(), torch.__version__)).encode()).hexdigest()[:12]
    path = folder / f"run-{name}-{key}"
    if not path.exists():
        torch.set_num_threads(1)
        with tempfile.TemporaryDirectory(dir=folder) as unfinished:
            config = resolve_config(RunConfig(), None, overrides)
            train(training, config, Path(unfinished) / "run", quiet=True)
            (Path(unfinished) / "run").replace(path)
    return load_run(path)


def trainer_version() -> str:
    """Hash of the code that a training run imports."""
    return hash_code(
        import_closure(Path(__file__).resolve().parents[1] / "learning" / "data.py", *PACKAGES)
        | import_closure(ROOT / "edgesparse" / "training" / "loop.py", *PACKAGES)
        | {ROOT / "edgesparse" / "training" / "loop.py"}
    )


def measure_set(name: str, folder: Path, settings: list[str]) -> dict[str, Any]:
    """Decisions and block choices of int8 against float32 on the set's test series."""
    try:
        bundle = make_bundle(name, folder, settings)
        _, test = load(name)
    except MissingPackage as missing:
        return {"missing": str(missing)}
    before, after = Session(bundle, precision="float32"), Session(bundle, precision="int8")
    windows = before.prepare(test)
    old, new = before.predict(windows), after.predict(windows)
    change = QuantizationGate(bundle, test).compare(after, before=before)
    flipped = share("flipped", old.argmax(-1) != new.argmax(-1))
    assert change.metric is not None and change.int8 is not None
    return {
        "n": flipped.n,
        "flipped": round(flipped.value * flipped.n),
        "float32": change.metric.value,
        "int8": change.int8.value,
        "agreement": selection_overlap(before, after, windows).value if before.is_sparse else None,
    }


def measure_golden(bundle: Bundle) -> dict[str, Any]:
    """Golden decisions of each instruction set of this machine, each in a pinned process."""
    found: dict[str, Any] = {}
    for isa in ISA_FLAGS:
        done = subprocess.run(
            [sys.executable, "-c", GOLDEN, str(bundle.path)],
            env={**os.environ, "EDGESPARSE_ISA": isa, "EDGESPARSE_ENGINE": ""},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise SystemExit(f"Golden vectors did not run on {isa}; {done.stderr.strip().splitlines()[-1]}.")
        result = json.loads(done.stdout)
        # A table that this machine lacks falls back to the function body, and is not counted as its own.
        if f"({isa})" in result["float32"]["engine"]:
            found[isa] = result
    first = next(iter(found.values()))
    same = {
        precision: all(r[precision]["decisions"] == first[precision]["decisions"] for r in found.values())
        for precision in first
    }
    spread = {
        precision: max(
            float(np.abs(np.array(r[precision]["scores"]) - np.array(first[precision]["scores"])).max())
            for r in found.values()
        )
        for precision in first
    }
    return {
        "isas": list(found),
        "same": same,
        "largest_difference": spread,
        "windows": len(first["float32"]["decisions"]),
    }
