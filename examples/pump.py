"""After shipping: a pump's line changes, an update learns it, and a rollback goes back.

Data: generated; vibration and current of a pump whose bearing is good or worn. Later the line is set to run
faster: a good bearing now sounds as a worn one did.
Needs: pip install 'edgesparse[cli,train,export]'
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np


def record(name: str, speed: float, seed: int) -> str:
    """A table of 80 recordings, eight per machine; half of the bearings are worn."""
    rng = np.random.default_rng(seed)
    rows = ["machine,recording,time,vibration,current,state"]
    for i in range(80):
        state, tone = ("worn", 2.6) if i % 2 else ("good", 1.0)
        t, phase = np.arange(200), rng.uniform(0, 6, (2, 1))
        x = np.sin(t * speed * np.array([[tone], [1.0]]) + phase) + 0.2 * rng.standard_normal((2, 200))
        rows += [f"m{i // 8},{i},{k},{a:.3f},{b:.3f},{state}" for k, (a, b) in enumerate(x.T)]
    (folder / name).write_text("\n".join(rows) + "\n", encoding="utf-8")
    return name


def edgesparse(*words: str) -> str:
    """What a command prints; ends the program where it fails."""
    command = [sys.executable, "-m", "edgesparse_runtime.cli", *words]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"edgesparse {' '.join(words)}\n{done.stderr}")
    return done.stdout


def accuracy(bundle: str, data: str) -> str:
    """On a table that the model has not seen."""
    metrics = json.loads(edgesparse("evaluate", bundle, data, "--json", *LABELED))["metrics"]
    return f"{metrics['accuracy']['value']:.2f}"


def current() -> str:
    """Which release answers."""
    status = json.loads(edgesparse("rollout", "status", "--store", "store", "--json"))
    return f"release {status['current']['release']} answers"


LABELED = ("--label-column", "state", "--series-column", "recording", "--group-column", "machine")
with tempfile.TemporaryDirectory() as place:
    folder = Path(place)
    old, new = record("old.csv", 0.2, 0), record("new.csv", 0.5, 1)
    tests = {"before": record("old_test.csv", 0.2, 2), "after": record("new_test.csv", 0.5, 3)}
    edgesparse("train", old, "-o", "run", *LABELED)
    edgesparse("export", "run", "-o", "pump.edgesparse", "--data", old)
    # 80 old recordings cannot show a smaller loss than 4.6 points.
    learned = ("--old", old, "--margin", "0.05", "-o", "pump_2.edgesparse")
    edgesparse("update", "pump.edgesparse", new, *learned, *LABELED)
    for bundle in ("pump.edgesparse", "pump_2.edgesparse"):
        found = ", ".join(f"{when} the change {accuracy(bundle, data)}" for when, data in tests.items())
        print(f"{bundle:18} accuracy {found}")
    edgesparse("rollout", "try", "pump.edgesparse", "--store", "store")
    print(f"{'first':18} {current()}")
    edgesparse("rollout", "try", "pump_2.edgesparse", "--for", "24h", "--store", "store")
    edgesparse("rollout", "confirm", "--store", "store")
    print(f"{'tried, confirmed':18} {current()}")
    edgesparse("rollout", "rollback", "--store", "store")
    print(f"{'rolled back':18} {current()}")
