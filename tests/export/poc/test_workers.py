"""Cells side by side: what one process measures, several measure too."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgesparse_export.poc.cell import Workplace
from edgesparse_export.poc.plan import SMALL, Cell
from edgesparse_export.poc.workers import run_cells
from tests.support.synthetic import make_series

CELLS = [Cell(SMALL, 0, 0.5), Cell(SMALL, 1, 0.5)]


def place(folder: Path, settings: tuple[str, ...] = ()) -> Workplace:
    return Workplace(make_series(12, steps=60), make_series(20, steps=60, seed=1), settings, folder)


def test_two_processes_measure_what_one_does(tmp_path: Path) -> None:
    alone = dict(run_cells(CELLS, place(tmp_path / "one"), 1))
    beside = dict(run_cells(CELLS, place(tmp_path / "two"), 2))
    assert set(alone) == set(beside) == set(CELLS)
    for cell in CELLS:
        assert beside[cell]["answers"] == alone[cell]["answers"]
        assert len(alone[cell]["answers"]["float32"]["right"]) == 20


def test_an_error_in_a_worker_is_raised_here(tmp_path: Path) -> None:
    # No kind of model: what a cell cannot even begin is a fault of ours, not of the data.
    with pytest.raises(KeyError, match="tower"):
        list(run_cells([Cell("tower", 0), Cell("tower", 1)], place(tmp_path), 2))
