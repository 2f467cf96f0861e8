"""Events of an MQTT stream: when a person began to walk or to run, and when that ended.

Data: BasicMotions, acceleration and rotation in three axes each, windows of 100 steps at 10 Hz; the model
learns from 40, the rules of events from 20 more, and the last 20 make the stream (in sktime's package).
Needs: pip install 'edgesparse[estimators,export,data,mqtt]', and mosquitto (apt-get install mosquitto)
"""

import json
import shutil
import socket
import subprocess
import sys
import tempfile
from importlib.resources import files
from pathlib import Path

import numpy as np
from paho.mqtt import publish

from edgesparse.estimators import SparseTransformerClassifier
from edgesparse_runtime import read_dataset

EDGESPARSE = (sys.executable, "-m", "edgesparse_runtime.cli")
CUT = ("--window", "100", "--stride", "10")
MOTIONS = ("standing", "walking", "standing", "running", "standing", "walking")


def load(part: str) -> tuple[np.ndarray, np.ndarray]:
    """Windows [n, 6, 100] and their motions."""
    data = read_dataset(Path(str(files("sktime"))) / f"datasets/data/BasicMotions/BasicMotions_{part}.ts")
    return np.stack(data.series), np.array([str(label).lower() for label in data.labels])


def record(X: np.ndarray, y: np.ndarray) -> list[str]:
    """One recording of all motions: time, six channels, and the motion that it is."""
    rows = []
    for motion in MOTIONS:
        for values in np.concatenate(X[y == motion], axis=1).T:
            rows.append(",".join(map(str, [len(rows) / 10, *values, motion])))
    return rows


def start(program: str, folder: Path) -> tuple[subprocess.Popen, int]:
    """A broker on loopback, and its port."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (folder / "broker.conf").write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\n")
    return subprocess.Popen([program, "-c", folder / "broker.conf"], stderr=subprocess.DEVNULL), port


mosquitto = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
if mosquitto is None:
    sys.exit("mosquitto is not installed")
(X, y), (X_test, y_test) = load("TRAIN"), load("TEST")
with tempfile.TemporaryDirectory() as place:
    bundle, table = Path(place) / "gait.edgesparse", Path(place) / "gait.csv"
    model = SparseTransformerClassifier().fit(X, y)
    model.save(bundle, X)
    header = ",".join(("time", *model.channels_, "motion"))
    table.write_text("\n".join([header, *record(X_test[::2], y_test[::2])]) + "\n")
    rules = ("--quiet", "standing", "--quiet", "badminton", "--max-false-alarms", "6/h")
    fit = [*EDGESPARSE, "events", "fit", bundle, table, *CUT, "--label-column", "motion", *rules]
    subprocess.run(fit, check=True, capture_output=True)
    broker, port = start(mosquitto, Path(place))
    follow = [*EDGESPARSE, "run", bundle, f"mqtt://127.0.0.1:{port}/waist?qos=1", "--follow", *CUT]
    with subprocess.Popen(follow, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as run:
        run.stderr.readline()  # It has subscribed.
        rows = [row.rpartition(",")[0] for row in record(X_test[1::2], y_test[1::2])]
        seconds = ["\n".join(rows[k : k + 10]) for k in range(0, len(rows), 10)]
        publish.multiple([("waist", text, 1, False) for text in seconds], "127.0.0.1", port)
        print(f"{len(seconds) // len(MOTIONS)} s each of {', '.join(MOTIONS)}")
        while (line := json.loads(run.stdout.readline())).get("time", 0) < (len(rows) - 1) / 10:
            if line["event"] == "event":
                print(f"{line['time']:5.0f} s  {line['kind']:5} of {line['class']}")
        run.terminate()
    broker.terminate()
