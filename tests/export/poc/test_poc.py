"""A poc: interrupted anywhere it resumes to the same result, and what it drops it names."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgesparse.config import RunConfig
from edgesparse.training.run_folder import Run
from edgesparse_export.parity import Parity
from edgesparse_export.poc import cell as cell_module
from edgesparse_export.poc import run as poc
from edgesparse_export.poc.cell import Workplace, part_of, run_cell
from edgesparse_export.poc.plan import RUNGS, Cell, Plan
from edgesparse_export.poc.rival import stretch
from edgesparse_runtime.bundle.read import Bundle, open_bundle
from edgesparse_runtime.cli.app import run
from edgesparse_runtime.data.readers import write_csv
from edgesparse_runtime.data.series_set import SeriesSet
from edgesparse_runtime.errors import GateError, InputError, Interrupted
from tests.support.synthetic import make_series

PLAN = Plan(seeds=2, seconds=0.1)
RATIOS = {"p50": 1.0, "p99": 2.0, "ratio": 1.0, "low": 0.9, "high": 1.1}


class Trainings:
    """Stands in for training: counts cells, and is interrupted at one of them."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.stop_at: int | None = None
        self.seconds = 10.0
        self.failing: set[str] = set()

    def __call__(self, cell: Cell, place: Workplace) -> dict[str, Any]:
        if len(self.done) == self.stop_at:
            raise KeyboardInterrupt
        self.done.append(cell.name)
        facts = {
            "rung": cell.rung,
            "seed": cell.seed,
            "share": cell.share,
            "series": 9,
            "seconds": self.seconds,
        }
        if cell.rung in self.failing:
            return facts | {"failed": "no parity"}
        rng = np.random.default_rng([cell.seed, list(RUNGS).index(cell.rung)])
        right = "".join(rng.choice(["0", "1"], len(place.test), p=[0.1, 0.9]))
        answers = {"right": right, "noisy": right, "confusion": [[1, 0], [0, 1]], "unknown": None}
        return facts | {"answers": {"float32": answers}, "attention_share": None}


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> Trainings:
    found = Trainings()
    monkeypatch.setattr(poc, "run_cell", found)
    rows = {f"{rung} float32": RATIOS for rung in RUNGS}
    monkeypatch.setattr(poc, "time_bundles", lambda *_: {"rows": rows, "calls": 200, "length": 9})
    return found


@pytest.fixture(scope="module")
def data() -> tuple[SeriesSet, SeriesSet]:
    return make_series(12, steps=60), make_series(20, steps=60, seed=1)


def test_stopped_anywhere_it_resumes_to_the_same_result(
    trainings: Trainings, data: tuple[SeriesSet, SeriesSet], tmp_path: Path
) -> None:
    whole = poc.run_poc(*data, tmp_path / "whole", PLAN)
    total, trainings.done = len(trainings.done), []
    for stop_at in (0, 3, total - 1):
        trainings.stop_at = stop_at
        with pytest.raises(Interrupted, match="run the same command again"):
            poc.run_poc(*data, tmp_path / "cut", PLAN)
    # A writer that was killed leaves its half behind.
    (tmp_path / "cut" / "cells" / ".dense-0.json.part").write_text("{", encoding="utf-8")
    trainings.stop_at = None
    resumed = poc.run_poc(*data, tmp_path / "cut", PLAN)
    assert len(trainings.done) == total == len(set(trainings.done))
    assert resumed == whole == json.loads((tmp_path / "cut" / "poc.json").read_text("utf-8"))


def test_a_time_budget_drops_whole_blocks_and_names_them(
    trainings: Trainings, data: tuple[SeriesSet, SeriesSet], tmp_path: Path
) -> None:
    said: list[str] = []
    plan = Plan(seeds=3, time_budget=130.0)
    result = poc.run_poc(*data, tmp_path / "p", plan, say=said.append)
    assert result["plan"]["seeds"] == [0, 1] and result["plan"]["asked_seeds"] == 3
    dropped = [row["what"] for row in result["dropped"]]
    assert dropped[0] == "seed 2" and len(dropped) == 7
    assert all(any(what in line for line in said) for what in dropped)
    # With more time the same folder gets the rest.
    more = poc.run_poc(*data, tmp_path / "p", Plan(seeds=3))
    assert more["plan"]["seeds"] == [0, 1, 2] and more["dropped"] == []


def test_a_failed_model_is_named_and_without_dense_there_is_no_verdict(
    trainings: Trainings, data: tuple[SeriesSet, SeriesSet], tmp_path: Path
) -> None:
    trainings.failing = {"small"}
    result = poc.run_poc(*data, tmp_path / "p", PLAN)
    assert result["failed"]["small-0"] == "no parity" and "small float32" not in result["models"]
    trainings.failing = {"dense"}
    with pytest.raises(GateError, match="The dense model failed: no parity"):
        poc.run_poc(*data, tmp_path / "q", PLAN)


def test_cells_of_other_data_are_refused_and_overwritten(
    trainings: Trainings, data: tuple[SeriesSet, SeriesSet], tmp_path: Path
) -> None:
    poc.run_poc(*data, tmp_path / "p", PLAN)
    other = make_series(12, steps=60, seed=5)
    with pytest.raises(InputError, match="was started with other data"):
        poc.run_poc(other, data[1], tmp_path / "p", PLAN)
    with pytest.raises(InputError, match="was started with other settings"):
        poc.run_poc(*data, tmp_path / "p", Plan(settings=("training.epochs=1",)))
    before = len(trainings.done)
    poc.run_poc(other, data[1], tmp_path / "p", PLAN, overwrite=True)
    assert len(trainings.done) == 2 * before
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").touch()
    with pytest.raises(InputError, match="holds other files"):
        poc.run_poc(*data, tmp_path / "photos", PLAN, overwrite=True)
    assert (tmp_path / "photos" / "a.jpg").exists()


def test_a_cell_is_measured_through_its_bundle(
    monkeypatch: pytest.MonkeyPatch, tiny_run: Run, exported_bundle: Bundle, series: SeriesSet, tmp_path: Path
) -> None:
    configs = []

    def train(data: SeriesSet, config: RunConfig, out: Path, *, quiet: bool) -> Run:
        configs.append(config)
        return tiny_run

    def export(run: Run, path: Path, *, data: SeriesSet) -> tuple[Bundle, Parity]:
        shutil.copytree(exported_bundle.path, path)
        return open_bundle(path), Parity(8, 1e-6, True, 0, None)

    def refuse(bundle: Bundle, **_: object) -> None:
        raise GateError("int8 must cost at most 0.01 accuracy")

    for name, stub in (("train", train), ("export_run", export), ("quantize_bundle", refuse)):
        monkeypatch.setattr(cell_module, name, stub)
    place = Workplace(series, series.take(range(10)), ("training.epochs=3",), tmp_path)
    found = run_cell(Cell("sparse-30", 7), place)
    settings = configs[0]
    assert (settings.model.attention, settings.training.budget) == ("sparse", 0.3)
    assert (settings.training.seed, settings.training.epochs) == (7, 3)
    answers = found["answers"]["float32"]
    assert len(answers["right"]) == len(answers["noisy"]) == sum(map(sum, answers["confusion"])) == 10
    assert list(found["answers"]) == ["float32"] and "at most 0.01" in found["int8_note"]
    assert open_bundle(tmp_path / found["bundle"]).manifest["files"]["model.onnx"]["sha256"] in str(found)
    part = run_cell(Cell("dense", 0, 0.5), place)
    assert part["bundle"] is None and part["series"] == len(series) // 2
    assert [path.name for path in (tmp_path / "bundles").iterdir()] == ["sparse-30-7.edgesparse"]


def test_parts_keep_every_class_and_the_rival_gets_equal_lengths() -> None:
    data = make_series(16, steps=60, unequal=True)
    assert data.labels is not None
    quarter, half = part_of(data, 0.25, 0), part_of(data, 0.5, 0)
    assert len(quarter) == 4 and len(half) == 8 and set(quarter.labels) == set(data.labels)  # type: ignore[arg-type]
    gap = data.series[0].copy()
    gap[:, 10:20] = np.nan
    found = stretch(data.with_series([gap, *data.series[1:]]), 60)
    assert found.shape == (16, 2, 60) and not np.isnan(found).any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--margin", "2"], "`--margin` must be between 0 and 1; got 2."),
        (["--seeds", "0"], "`--seeds` must be"),
        (["--time-budget", "-1"], "`--time-budget` must be at least 0 seconds; got -1."),
        (["--set", "model.attention=dense"], "`poc` varies this itself"),
        (["--set", "training.epoch=1"], "Did you mean `epochs`?"),
        (["--test", "{}/nothing.csv"], "no such file or folder"),
        (["--test", "{}/other.csv"], "must hold classes that are trained on only; got slow"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    data = make_series(6, steps=60)
    assert data.labels is not None
    write_csv(tmp_path / "a.csv", data.with_series(data.series, labels=np.array(["a", "fast"] * 3)))
    write_csv(tmp_path / "other.csv", data)
    given = [option.format(tmp_path) for option in options]
    assert run(["poc", str(tmp_path / "a.csv"), "-o", str(tmp_path / "out"), *given]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_command_is_restated_as_a_shell_takes_it(tmp_path: Path) -> None:
    from edgesparse_runtime.cli.building.poc import PocRequest
    from edgesparse_runtime.cli.restate import restate

    request = PocRequest(data=Path("my data.csv"), out=Path("p"), seeds=5, settings=["a.b=1"], overwrite=True)
    expected = "edgesparse poc 'my data.csv' --out p --seeds 5 --set a.b=1 --overwrite"
    assert restate("poc", request) == expected
