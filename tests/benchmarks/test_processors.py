"""The folder that measures another processor: it runs without our packages, and its tables agree in int8."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.processors.table import tables
from benchmarks.processors.write_folder import main as write
from edgesparse_runtime.engine import find_engine


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if find_engine().isa is None:
        pytest.skip("needs the operator library")
    path = tmp_path_factory.mktemp("carried")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["write_folder", str(path), "attention_N256", "linear_M16"])
        assert write() == 0
    return path


def measure(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """`measure.py` of the folder, as it runs where it is carried."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("EDGESPARSE", "PYTHONPATH"))}
    return subprocess.run(
        [sys.executable, str(folder / "measure.py"), *words],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_int8_gives_the_same_bits_on_every_table_that_is_here(folder: Path) -> None:
    isas = ["scalar", "avx2", "neon", "neon_dotprod"]
    done = measure(folder, "--isas", *isas, "--seconds", "0.01", "-o", "found.json")
    assert done.returncode == 0, done.stderr
    result = json.loads((folder / "found.json").read_text())
    assert result["machine"]["cores"] == os.cpu_count()
    by_model: dict[str, dict[str, str]] = {}
    for key, entry in result["found"].items():
        assert 0 < entry["quartiles"][0] <= entry["ms"] <= entry["quartiles"][1]
        isa, model = key.split()
        by_model.setdefault(model, {})[isa] = entry["hash"]
    assert set(by_model) == {
        "attention_N256_H4_D32_B16_int8",
        "attention_N256_H4_D32_B16_float32",
        "dense_N256_H4_D32",
        "linear_M16_256x256",
    }
    for model in ("attention_N256_H4_D32_B16_int8", "linear_M16_256x256"):
        assert len(by_model[model]) >= 2 and len(set(by_model[model].values())) == 1
    # Nothing of it depends on our kernels: timed once.
    assert len(by_model["dense_N256_H4_D32"]) == 1
    assert all(
        f"not on this machine: {isa}" in done.stderr
        for isa in isas
        if isa not in by_model["linear_M16_256x256"]
    )


def test_a_machine_without_any_of_the_tables_is_told_so(folder: Path) -> None:
    done = measure(folder, "--isas", "of_tomorrow")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == "None of of_tomorrow is on this machine."


def test_the_table_has_a_column_per_instruction_set() -> None:
    found = {
        "avx2 whole_32_sparse_int8": {"ms": 2.0},
        "amx whole_32_sparse_int8": {"ms": 0.5},
        "amx whole_32_dense_float32": {"ms": 1.25},
        "amx linear_M1_256x256": {"ms": 0.01},
    }
    whole, linear = tables(found)
    assert whole.splitlines() == [
        "| model | avx2 | amx |",
        "| --- | --- | --- |",
        "| whole_32_sparse_int8 | 2 | 0.5 (4.00x) |",
        "| whole_32_dense_float32 |  | 1.25 |",
    ]
    assert linear.splitlines()[-1] == "| linear_M1_256x256 | 0.01 |"
