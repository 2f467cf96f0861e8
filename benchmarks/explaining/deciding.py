"""`edgesparse poc` and `report`, run as a user runs them: timed, killed at random, resumed, and read."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.explaining.planted import plant
from benchmarks.learning.data import MissingPackage, load
from benchmarks.proofs.evidence import Claim, Evidence
from benchmarks.proofs.lines import Line, line, skip
from benchmarks.support.axe import find_axe
from benchmarks.support.settings import QUICK
from edgesparse_runtime.data.readers import write_csv

MOST_MINUTES = 30.0
# Until the trainings of a killed poc have ended.
MOST_SECONDS_AFTER = 3.0
KILLS = 3
# The generated set is learned in a few steps: what is proved is the course, not the accuracy.
SHORT = ("--seeds", "1", "--epochs", "1", "--set", "training.min_steps=4", "--seconds", "0.2")
# What two runs of the same thing measure differently: seconds, and the rival's, timed with its training.
TIMES = {"train_seconds"}
RIVAL_TIMES = {"p50", "p99", "max", "streams", "on_time"}
TESTS = "tests/runtime/"


def prove_poc(facts: dict[str, Any]) -> list[Line]:
    """A poc that is killed ends as one that is not; on ACSF1 in half an hour."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part, count in (("TRAIN", 40), ("TEST", 60)):
            write_csv(folder / f"set_{part}.csv", plant("pitch", count, seed=len(part)).data)
        arguments = ["set_TRAIN.csv", "--test", "set_TEST.csv", *SHORT]
        whole = _poc(folder, arguments, "whole", _environment())
        cut, kills, orphans = _killed(folder, arguments, "cut", whole)
        facts["poc"] = {"seconds": whole, "seconds_killed": cut, "kills": kills, "orphans": orphans}
        # The times of the models are those of the first run: the second must have made the same models.
        shutil.copy(folder / "whole" / "cells" / "latency.json", folder / "cut" / "cells" / "latency.json")
        _poc(folder, arguments, "cut", _environment())
        reports = [_report(folder, run) for run in ("whole", "cut")]
    same = _without_times(reports[0]) == _without_times(reports[1])
    found = [
        line(
            "poc killed at random and resumed: the same figures and models on the page",
            same and kills > 0,
            f"{kills} kills (SIGKILL); {len(reports[0]['models'])} models",
            "all the same",
        ),
        line("poc killed: trainings that outlived it", kills > 0 and orphans == 0, orphans, "0"),
    ]
    return [*found, _acsf1(facts)]


def _acsf1(facts: dict[str, Any]) -> Line:
    name, target = "poc on ACSF1, three seeds, all models", f"<= {MOST_MINUTES:.0f} minutes"
    if QUICK:
        return skip(name, "left out with QUICK=1", target)
    try:
        parts = load("ACSF1")
    except MissingPackage as error:
        return line(name, False, str(error), target)
    with tempfile.TemporaryDirectory() as folder:
        for part, data in zip(("TRAIN", "TEST"), parts, strict=True):
            write_csv(Path(folder) / f"ACSF1_{part}.csv", data)
        seconds = _poc(Path(folder), ["ACSF1_TRAIN.csv", "--test", "ACSF1_TEST.csv"], "poc")
        report = _report(Path(folder), "poc")
    facts["acsf1"] = {"seconds": seconds, "report": report}
    said = f"minutes; {report['verdict']['why']}: {report['verdict']['use']}"
    is_whole = not report["dropped"] and not report["failed"]
    return line(name, is_whole and seconds <= 60 * MOST_MINUTES, seconds / 60, target, said)


def _command(arguments: list[str]) -> list[str]:
    return [sys.executable, "-m", "edgesparse_runtime.cli", *arguments]


def _poc(folder: Path, arguments: list[str], out: str, environment: dict[str, str] | None = None) -> float:
    """Seconds of a whole run."""
    start = time.monotonic()
    done = subprocess.run(
        _command(["poc", *arguments, "-o", out]),
        cwd=folder,
        capture_output=True,
        text=True,
        env=environment,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return time.monotonic() - start


def _killed(folder: Path, arguments: list[str], out: str, seconds: float) -> tuple[float, int, int]:
    """Run until it ends, killed a few times on the way; seconds, kills, and trainings that outlived one."""
    rng, start, kills, orphans = random.Random(0), time.monotonic(), 0, 0
    while kills < KILLS:
        process = subprocess.Popen(
            _command(["poc", *arguments, "-o", out]),
            cwd=folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=_environment(),
            start_new_session=True,
        )
        try:
            process.wait(rng.uniform(0.2, 0.6) * seconds)
            break
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
            time.sleep(MOST_SECONDS_AFTER)
            orphans += _processes_of(process.pid)
    _poc(folder, arguments, out, _environment())
    return time.monotonic() - start, kills, orphans


def _processes_of(session: int) -> int:
    """Processes of a session that are alive."""
    found = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        found += int(fields[3]) == session and fields[0] != "Z"
    return found


def _environment() -> dict[str, str]:
    # One thread adds up in one order: two runs make the same bytes.
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def _report(folder: Path, out: str) -> dict[str, Any]:
    """What the page shows, without the folder's name."""
    command = _command(["report", out, "-o", "page.html", "--json"])
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    facts: dict[str, Any] = json.loads(done.stdout)
    return {name: value for name, value in facts.items() if name not in ("command", "result")}


def _without_times(facts: dict[str, Any]) -> dict[str, Any]:
    models = {}
    for name, row in facts["models"].items():
        hidden = TIMES | (RIVAL_TIMES if "rocket" in name else set())
        models[name] = {key: value for key, value in row.items() if key not in hidden}
    return {**facts, "models": models}


def prove_decision_pages(facts: dict[str, Any]) -> list[Line]:
    """The pages of poc and report: figures, browser, languages, and axe-core where npm brings it."""
    evidence = Evidence("explain")
    page = f"{TESTS}measure/test_decision_page.py"
    claims = [
        Claim("poc, report: every figure on the page is in the result", [f"{page}::every_figure"]),
        Claim(
            "poc, report: the verdict is what was measured",
            [f"{page}::verdict", f"{TESTS}measure/test_verdict.py"],
        ),
        Claim(
            "poc, report: Chromium at 390 and 1,440 px, no console error, no request", [f"{page}::browser"]
        ),
        Claim("poc, report: keyboard, screen reader, print, two languages", [f"{page}::readable_by_all"]),
        Claim("poc: resumed after an interrupt anywhere, drops named", ["tests/export/poc/test_poc.py"]),
    ]
    evidence.run_together(claims)
    lines = [evidence.compare(claim) for claim in claims]
    name, target = "pages: axe-core finds nothing", "no violation"
    script, reason = find_axe()
    if script is None:
        return [*lines, skip(name, reason, target)]
    tests = [
        f"{page}::axe",
        f"{TESTS}explain/test_page.py::axe",
        f"{TESTS}measure/test_profile.py::in_a_browser",
    ]
    return [*lines, evidence.compare(Claim(name, tests, target, environment={"EDGESPARSE_AXE": str(script)}))]
