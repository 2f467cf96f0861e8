"""The whole chain on the command line, to tell which appliance drew the power: train, export, verify, run.

Data: ACSF1, power of ten kinds of appliance, 1,460 steps; 100 series to train on, 100 to test (in sktime's
package).
Needs: pip install 'edgesparse[cli,data,train,export]'
"""

import csv
import json
import subprocess
import sys
import tempfile
from importlib.resources import files
from pathlib import Path


def edgesparse(*words: object) -> str:
    """What a command prints; ends the program where it fails."""
    command = [sys.executable, "-m", "edgesparse_runtime.cli", *map(str, words)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"edgesparse {' '.join(map(str, words))}\n{done.stderr}")
    return done.stdout


data = Path(str(files("sktime"))) / "datasets/data/ACSF1"
train, test = data / "ACSF1_TRAIN.ts", data / "ACSF1_TEST.ts"
with tempfile.TemporaryDirectory() as place:
    folder = Path(place)
    edgesparse("train", train, "-o", "run")
    edgesparse("export", "run", "-o", "appliance.edgesparse", "--data", train)
    verified = json.loads(edgesparse("verify", "appliance.edgesparse", "--json"))
    evaluated = json.loads(edgesparse("evaluate", "appliance.edgesparse", test, "--json"))
    edgesparse("run", "appliance.edgesparse", test, "-o", "predictions.csv")
    with (folder / "predictions.csv").open(encoding="utf-8") as stream:
        predictions = list(csv.DictReader(stream))
    size = sum(path.stat().st_size for path in (folder / "appliance.edgesparse").iterdir())

print(f"bundle        {size / 1e6:.1f} MB")
print(f"verify        {'holds' if verified['holds'] else 'does not hold'}")
name, metric = next(iter(evaluated["metrics"].items()))
interval = f"[{metric['low']:.2f}, {metric['high']:.2f}]"
print(f"{name:14}{metric['value']:.2f} {interval} of {metric['n']} test series")
print(f"predictions   {len(predictions)} rows")
