"""Ray, where it is installed: `pip install 'edgesparse[ray]'`. Not part of `make dev`, for its size."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgesparse_runtime.bundle.read import Bundle
from edgesparse_runtime.data.readers import write_csv
from edgesparse_runtime.session import Session
from tests.support.running import ENVIRONMENT
from tests.support.synthetic import make_series

pytest.importorskip("ray", reason="ray is not installed (pip install 'edgesparse[ray]')")

# Ray brings threads, handlers and warnings of its own: it runs in a process of its own.
SCRIPT = """
import json, logging, sys
from pathlib import Path
import ray
from edgesparse_runtime.deploying.ray_scoring import score_files
from edgesparse_runtime.data.readers import ReadOptions
ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
rows = score_files(sys.argv[1], [Path(p) for p in sys.argv[2:]], precision="float32", workers=2)
print("ROWS " + json.dumps(rows))
ray.shutdown()
"""


@pytest.mark.slow
def test_many_files_are_scored_and_a_bad_one_stops_nothing(tmp_path: Path, shared_bundle: Bundle) -> None:
    import json

    sets = [make_series(3, seed=i) for i in range(3)]
    files = [tmp_path / f"shift{i}.csv" for i in range(3)]
    for path, series in zip(files, sets, strict=True):
        write_csv(path, series)
    bad = tmp_path / "bad.csv"
    bad.write_text("")
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(shared_bundle.path), *map(str, [files[0], bad, *files[1:]])],
        capture_output=True,
        text=True,
        env=ENVIRONMENT | {"RAY_USAGE_STATS_ENABLED": "0"},
        check=False,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    line = next(x for x in result.stdout.splitlines() if x.startswith("ROWS "))
    rows = json.loads(line[5:])
    assert [Path(row["file"]).name for row in rows] == ["shift0.csv"] * 3 + ["bad.csv"] + [
        name for name in ("shift1.csv", "shift2.csv") for _ in range(3)
    ]
    assert rows[3]["error"] and not rows[3]["scores"]
    session = Session(shared_bundle, precision="float32", threads=1)
    expected = np.concatenate([session.predict(series) for series in sets])
    np.testing.assert_allclose([r["scores"] for r in rows if not r["error"]], expected, rtol=1e-4, atol=1e-5)
    assert all(r["decision"] in ("fast", "slow") for r in rows if not r["error"])
