"""`run` and `evaluate` on ordinary files: names and times come back, dead sensors and groups are shown."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from edgesparse_runtime.bundle.read import Bundle
from edgesparse_runtime.data.readers import write_csv
from edgesparse_runtime.data.series_set import SeriesSet
from tests.support.processes import edgesparse

NAMES = np.array(["P7", "P2", "P9"])


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_names_and_times_come_back(shared_bundle: Bundle, series: SeriesSet, tmp_path: Path) -> None:
    few = replace(series.take([0, 1, 2]), ids=NAMES, groups=np.array(["m1", "m1", "m2"]))
    write_csv(tmp_path / "x.csv", few)
    found = edgesparse("run", shared_bundle.path, tmp_path / "x.csv", "--format", "csv")
    rows = rows_of(found.stdout)
    assert [(r["series"], r["decision"], r["group"], r["start"]) for r in rows] == [
        ("P7", "fast", "m1", "0"),
        ("P2", "slow", "m1", "0"),
        ("P9", "fast", "m2", "0"),
    ]
    assert list(rows[0])[:4] == ["file", "series", "decision", "score"]
    found = edgesparse("run", shared_bundle.path, tmp_path / "x.csv", "--json", "--window", "300")
    predictions = json.loads(found.stdout)["predictions"]
    assert [(p["series"], p["recording"], p["start"]) for p in predictions[:3]] == [
        ("P7", "1", "0"),
        ("P7", "1", "300"),
        ("P2", "2", "0"),
    ]
    assert predictions[0]["faults"] == []
    # Without names and times: the number of the series and the step.
    lines = (tmp_path / "x.csv").read_text().splitlines()
    header = lines[0].split(",")
    kept = [header.index(name) for name in ("current", "voltage")]
    rows_of_one = [",".join(line.split(",")[k] for k in kept) for line in lines[:1201]]
    (tmp_path / "y.csv").write_text("\n".join(rows_of_one) + "\n")
    found = edgesparse("run", shared_bundle.path, tmp_path / "y.csv", "--json", "--window", "300")
    predictions = json.loads(found.stdout)["predictions"]
    assert [(p["series"], p["start"]) for p in predictions] == [(1, str(300 * k)) for k in range(4)]


def test_a_dead_sensor_ends_in_exit_code_3(shared_bundle: Bundle, series: SeriesSet, tmp_path: Path) -> None:
    dead = series.series[1].copy()
    dead[0] = 0.25
    write_csv(tmp_path / "x.csv", series.take([0, 1]).with_series([series.series[0], dead]))
    found = edgesparse("run", shared_bundle.path, tmp_path / "x.csv", "--json", "-o", tmp_path / "y.json")
    assert found.returncode == 3
    assert "1 of 2 windows look as if a sensor were at fault (the first: current: flat)" in found.stderr
    written = json.loads((tmp_path / "y.json").read_text())["predictions"]
    assert [row["faults"] for row in written] == [[], ["current: flat"]]


def test_evaluate_shows_every_group(shared_bundle: Bundle, series: SeriesSet, tmp_path: Path) -> None:
    write_csv(tmp_path / "x.csv", replace(series, groups=np.repeat(["P1", "P2", "P3"], 12)))
    found = edgesparse("evaluate", shared_bundle.path, tmp_path / "x.csv")
    assert found.returncode == 0, found.stderr
    assert "(n=36 in 3 groups)" in found.stdout
    assert "worst: P" in found.stdout
    found = edgesparse("evaluate", shared_bundle.path, tmp_path / "x.csv", "--json")
    assert set(json.loads(found.stdout)["groups"]) == {"P1", "P2", "P3"}
