"""`monitor learn`, `update` and `rollout`, killed or on a full disk: what they leave is whole."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edgesparse_runtime.bundle.read import Bundle, all_files
from edgesparse_runtime.bundle.write import copy_bundle, store_files
from edgesparse_runtime.operation.rollout.store import Store
from tests.support.paths import ROOT, source_environment
from tests.system.operation.test_monitor import CUT, make_recording, to_csv
from tests.system.operation.test_update import LABELED, write_series

KILLS = int(os.environ.get("EDGESPARSE_KILLS", "6"))


@pytest.fixture
def folder(shared_bundle: Bundle, tmp_path: Path) -> Path:
    """A champion, a store in which it is current, and data for both verbs."""
    folder = tmp_path / "line"
    folder.mkdir()
    store_files(folder / "champion.edgesparse", all_files(shared_bundle))
    copy_bundle(shared_bundle, tmp_path / "next.edgesparse", {}, {"release": 2})
    (folder / "learn.csv").write_text(to_csv(make_recording(40_000)), encoding="utf-8")
    write_series(folder / "new.csv", 40, 0.28, 0.7, 6)
    store = Store(folder / "store", create=True)
    store.begin(shared_bundle, "live", 60)
    store.close()
    return folder


def run_rounds(folder: Path, how: str) -> dict[str, Any]:
    following = str(folder.parent / "next.edgesparse")
    verbs = {
        "learn": ["monitor", "learn", "champion.edgesparse", "learn.csv", *CUT],
        "update": ["update", "champion.edgesparse", "new.csv", "-o", "challenger.edgesparse", *LABELED],
        "try": ["rollout", "try", following, "--shadow", "--store", "store"],
        "rollback": ["rollout", "rollback", "--store", "store"],
    }
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "tests.system.operation.kill_rounds",
            folder,
            how,
            str(KILLS),
            json.dumps(verbs),
        ],
        cwd=ROOT,
        env=source_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.system
def test_kill_9_leaves_whole_bundles(folder: Path) -> None:
    found = run_rounds(folder, "kill")
    assert found["killed"] >= KILLS / 4, found
    check_tidy(found)


@pytest.mark.system
def test_a_full_disk_is_one_line_and_loses_nothing(folder: Path) -> None:
    found = run_rounds(folder, "full")
    assert len(found["refused"]) >= KILLS / 8, found
    for printed in found["refused"]:
        code, last = int(printed.split()[1].rstrip(":")), printed.splitlines()[-1]
        assert code in (1, 2) and "Traceback" not in printed, printed
        assert "edgesparse: error: " in last and "bug" not in last, printed
    check_tidy(found)


def check_tidy(found: dict[str, Any]) -> None:
    """Nothing half-written stays once a verb has run to its end."""
    assert found["left"] == [
        "challenger.edgesparse",
        "champion.edgesparse",
        "learn.csv",
        "new.csv",
        "store",
    ]
