"""Property: a stream gives the scores of the file of the same recording, however its lines are written."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgesparse_runtime.bundle.read import Bundle
from edgesparse_runtime.bundle.write import write_bundle
from edgesparse_runtime.data.for_model import read_for_model
from edgesparse_runtime.session import Session
from edgesparse_runtime.stream import StreamOptions
from tests.support.recordings.made_data import CLOCKS, EXAMPLES, Made, made, many, write
from tests.support.recordings.streams import live
from tests.support.tolerances import ENGINES

CHANNELS = ("current", "voltage")
WINDOW, STRIDE = 16, 8


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory, shared_bundle: Bundle) -> Session:
    """The shared model as if it had been trained on windows."""
    manifest = {key: value for key, value in shared_bundle.manifest.items() if key != "files"}
    manifest["input"] = {**manifest["input"], "window": WINDOW, "stride": STRIDE, "period": 0.02}
    names = [name for name in shared_bundle.manifest["files"] if name != "manifest.json"]
    files = {name: shared_bundle.read(name) for name in names}
    windows = write_bundle(tmp_path_factory.mktemp("windows") / "w.edgesparse", files, manifest)
    return Session(windows, precision="float32", threads=1)


def recorded(folder: Path, data: Made, clock: str, seed: int) -> tuple[str, list[list[str]]]:
    """Header, and the lines of each machine, where some are lost: single ones, and a long stretch."""
    rng = np.random.default_rng(seed)
    header, *lines = write(folder / "all.csv", data, clock=clock).read_text(encoding="utf-8").splitlines()
    machines, first = [], 0
    for x in data.series:
        steps = x.shape[1]
        is_there = rng.random(steps) > 0.03
        gap = int(rng.integers(33, steps + 30))
        is_there[gap : gap + 9] = False
        is_there[:8] = True
        machines.append([lines[first + i] for i in np.flatnonzero(is_there)])
        first += steps
    return header.replace("series", "machine"), machines


def mixed(machines: list[list[str]], rng: random.Random) -> list[str]:
    """Lines of several machines as they may arrive: in order for each of them."""
    turns = [number for number, lines in enumerate(machines) for _ in lines]
    rng.shuffle(turns)
    rest = [iter(lines) for lines in machines]
    return [next(rest[number]) for number in turns]


def as_json(header: str, lines: list[str]) -> list[str]:
    names = header.split(",")
    rows = [dict(zip(names, line.split(","), strict=True)) for line in lines]
    return [
        json.dumps({k: (float(v) if v else None) if k in CHANNELS else v for k, v in r.items()}) for r in rows
    ]


@settings(parent=many, max_examples=max(5, EXAMPLES // 2))
@given(
    data=made(channels=CHANNELS, steps=(40, 90)),
    clock=st.sampled_from(sorted(CLOCKS)),
    other=st.sampled_from(sorted(CLOCKS)),
    form=st.sampled_from(["csv", "json"]),
    seed=st.integers(0, 99),
)
def test_stream_and_file_of_one_recording_agree(
    tmp_path: Path, session: Session, data: Made, clock: str, other: str, form: str, seed: int
) -> None:
    """The file has its rows in any order and another clock; the stream mixes its machines."""
    assert session.bundle is not None
    rng = random.Random(seed)
    header, machines = recorded(tmp_path, data, other, seed)
    rows = [line for lines in machines for line in lines]
    rng.shuffle(rows)
    (tmp_path / "file.csv").write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    read = read_for_model(tmp_path / "file.csv", session.bundle.manifest, needs_labels=False)
    assert read.groups is not None
    # A stream scores whole windows; of a file, a recording without any is kept.
    whole = [i for i, x in enumerate(read.series) if x.shape[1] == WINDOW]
    read = read.take(whole)
    expected = session.predict(read) if whole else np.zeros((0, 2))

    header, machines = recorded(tmp_path, data, clock, seed)
    lines = mixed(machines, rng)
    lines = as_json(header, lines) if form == "json" else [header, *lines]
    scores, _, _ = live(session, lines, StreamOptions())
    for name in data.names:
        mine = [score for score in scores if score.machine == name]
        windows = np.flatnonzero(read.groups == name)
        missing = [np.isnan(read.series[i]).mean() for i in windows.tolist()]
        assert [score.missing for score in mine] == missing
        np.testing.assert_allclose(
            [score.values for score in mine] or np.zeros((0, 2)),
            expected[windows],
            rtol=ENGINES.relative,
            atol=ENGINES.absolute,
        )
