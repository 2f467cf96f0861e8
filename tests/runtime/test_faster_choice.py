"""What `auto` stands for: engine and precision that are the faster ones on this machine."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import onnxruntime
import pytest

from edgesparse_runtime import engine
from edgesparse_runtime import session as session_module
from edgesparse_runtime.bundle.read import Bundle, open_bundle
from edgesparse_runtime.bundle.write import rewrite_bundle
from edgesparse_runtime.dense_twin.lookup import describe_machine, hash_of
from edgesparse_runtime.session import Session
from tests.support.kernels.isas import ISA_FLAGS
from tests.support.processes import edgesparse

# Of a measurement, but for what differs in a test.
ROW = {
    "density": None,
    "kept": 1.0,
    "dense_ms": 9.0,
    "ratio": 1.0,
    "low": 1.0,
    "high": 1.0,
    "rounds": 1,
    "winner": "sparse",
    "agrees": True,
    "agreement": None,
}


@pytest.fixture
def plain_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor without any of the kernels' instruction sets."""
    monkeypatch.delenv(engine.ENGINE_VARIABLE, raising=False)
    monkeypatch.delenv(engine.ISA_VARIABLE, raising=False)
    monkeypatch.setattr(engine, "_probe", lambda library, pinned: (engine.PLAIN_ISA, ""))


@pytest.mark.usefixtures("plain_kernels")
def test_the_function_body_runs_where_kernels_would_be_plain_code(shared_bundle: Bundle) -> None:
    session = Session(shared_bundle)
    assert session.engine == "function body (faster than scalar kernels)"
    assert session.precision == "float32"
    assert session.precision_reason == "no gain from int8 without native kernels"


@pytest.mark.usefixtures("plain_kernels")
def test_plain_kernels_run_where_they_are_selected(
    monkeypatch: pytest.MonkeyPatch, shared_bundle: Bundle
) -> None:
    assert engine.find_engine("native").isa == engine.PLAIN_ISA
    # int8 is slower than float32 in them.
    assert Session(shared_bundle, engine="native").precision == "float32"
    monkeypatch.setenv(engine.ISA_VARIABLE, engine.PLAIN_ISA)
    assert engine.find_engine().isa == engine.PLAIN_ISA


def test_the_body_is_registered_nowhere() -> None:
    options = onnxruntime.SessionOptions()
    assert engine.register(options, wanted="body").isa is None


def test_float32_runs_in_the_function_body(shared_bundle: Bundle) -> None:
    assert Session(shared_bundle, engine="body").precision == "float32"
    assert Session(shared_bundle, engine="body", precision="int8").precision == "int8"


@pytest.mark.parametrize(
    ("isa", "expected", "reason"),
    [
        ("amx", "int8", "faster with amx kernels"),
        ("avx512vnni", "int8", "faster with avx512vnni kernels"),
        ("avxvnni", "int8", "faster with avxvnni kernels"),
        ("avx2", "float32", "no gain from int8 with avx2 kernels"),
        ("neon_dotprod", "int8", "faster with neon_dotprod kernels"),
        ("neon", "float32", "no gain from int8 with neon kernels"),
        ("of_tomorrow", "float32", "no gain from int8 with of_tomorrow kernels"),
    ],
)
def test_the_instruction_set_decides_where_nothing_was_measured(
    monkeypatch: pytest.MonkeyPatch, shared_bundle: Bundle, isa: str, expected: str, reason: str
) -> None:
    monkeypatch.setattr(session_module, "find_engine", lambda wanted: engine.Engine(isa, ""))
    session = Session(shared_bundle)
    assert (session.precision, session.precision_reason) == (expected, reason)
    assert Session(shared_bundle, precision="int8").precision == "int8"


def test_int8_is_the_choice_only_of_tables_that_exist() -> None:
    assert set(ISA_FLAGS) > set(engine.FASTER_IN_INT8)


def test_profile_states_the_precision_and_why(shared_bundle: Bundle) -> None:
    shown = edgesparse("profile", str(shared_bundle.path), "--seconds", "0.05", "--precision", "float32")
    assert re.search(r"^precision +float32, as given$", shown.stdout, re.MULTILINE)


@pytest.mark.parametrize(
    ("float32", "int8", "expected"),
    [
        # Geometric mean of the ratios at the lengths that both have: 1/2 and 1/4; 2 and 1/4; 2 and 2.
        ({100: 1.0, 200: 1.0}, {100: 2.0, 200: 4.0}, "float32"),
        ({100: 4.0, 200: 1.0}, {100: 2.0, 200: 4.0}, "float32"),
        ({100: 4.0, 200: 8.0, 400: 0.1}, {100: 2.0, 200: 4.0}, "int8"),
    ],
)
def test_a_measurement_on_this_kind_of_machine_decides(
    tmp_path: Path, shared_bundle: Bundle, float32: dict[int, float], int8: dict[int, float], expected: str
) -> None:
    bundle = _with_times(tmp_path, shared_bundle, {"float32": float32, "int8": int8})
    session = Session(bundle, threads=1)
    assert session.precision == expected
    assert session.precision_reason.startswith("measured on this kind of machine: int8 is ")
    # Another number of threads was not measured.
    assert not Session(bundle, threads=2).precision_reason.startswith("measured")


def test_the_twin_counts_where_it_would_run(tmp_path: Path, shared_bundle: Bundle) -> None:
    times = {"float32": {100: 4.0}, "int8": {100: 2.0}}
    faster = {"float32": {"winner": "dense", "dense_ms": 1.0}, "int8": {}}
    assert Session(_with_times(tmp_path, shared_bundle, times, faster), threads=1).precision == "float32"


@pytest.mark.parametrize("table", [None, 3, [3], [{"density": None, "length": "x", "sparse_ms": -1.0}]])
def test_a_table_of_anything_else_is_no_measurement(
    tmp_path: Path, shared_bundle: Bundle, table: Any
) -> None:
    bundle = _with_times(tmp_path, shared_bundle, {"float32": {}, "int8": {}}, tables=table)
    assert not Session(bundle, threads=1).precision_reason.startswith("measured")


def test_doctor_names_the_default_and_why(tmp_path: Path, shared_bundle: Bundle) -> None:
    bundle = _with_times(tmp_path, shared_bundle, {"float32": {100: 1.0}, "int8": {100: 2.0}}, threads=None)
    shown = edgesparse("doctor", str(bundle.path))
    assert "float32: measured on this kind of machine: int8 is 0.50x as fast as float32" in shown.stdout


def _with_times(
    folder: Path,
    shared: Bundle,
    times: dict[str, dict[int, float]],
    more: dict[str, dict[str, Any]] | None = None,
    *,
    tables: Any = (),
    threads: int | None = 1,
) -> Bundle:
    """A copy of a bundle with made-up measurements of this machine, in milliseconds by length."""
    shutil.copytree(shared.path, folder / "m.edgesparse")
    bundle = open_bundle(folder / "m.edgesparse")
    session = Session(bundle, threads=threads)
    entries = []
    for precision, by_length in times.items():
        rows = [
            ROW | {"length": n, "sparse_ms": ms} | (more or {}).get(precision, {})
            for n, ms in by_length.items()
        ]
        entries.append(
            {
                **describe_machine(session.threads, session.engine),
                "precision": precision,
                "model": hash_of(bundle.manifest, precision),
                "batch": 1,
                "measured": "2026-11-27T12:00:00Z",
                "dense_up_to": [],
                "table": rows if tables == () else tables,
            }
        )
    return rewrite_bundle(bundle, {}, {"breakeven": entries})
