"""Every instruction set of this machine, each pinned in a process of its own."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from edgesparse_runtime import engine as runtime_library
from tests.kernels.pinned import Results, run_cases
from tests.support.kernels.cases import CASES
from tests.support.kernels.isas import expected_isas
from tests.support.kernels.reference import sparse_attention
from tests.support.tolerances import ENGINES, INT8_RMS, INT8_RMS_LARGE_LOGITS


def test_the_pin_took(pinned_results: dict[str, Results]) -> None:
    assert set(pinned_results) == expected_isas()
    for isa, result in pinned_results.items():
        assert str(result["isa"]) == f"native ({isa})"


def test_int8_gives_the_same_bits_on_every_instruction_set(pinned_results: dict[str, Results]) -> None:
    for isa, result in pinned_results.items():
        for case in CASES:
            name = f"{case.name}/int8"
            assert result[name].tobytes() == pinned_results["scalar"][name].tobytes(), (isa, name)


def test_float32_equals_the_reference_on_every_instruction_set(pinned_results: dict[str, Results]) -> None:
    for case in CASES:
        expected, _ = sparse_attention(**case.feeds(), attributes=case.node())
        for result in pinned_results.values():
            np.testing.assert_allclose(
                result[f"{case.name}/float32"], expected, rtol=ENGINES.relative, atol=ENGINES.absolute
            )


def test_int8_error_is_small(pinned_results: dict[str, Results]) -> None:
    """Root mean square of the error over the output's."""
    for case in CASES:
        most = INT8_RMS_LARGE_LOGITS if case.name == "large_logits" else INT8_RMS
        expected, _ = sparse_attention(**case.feeds(), attributes=case.node())
        output = next(iter(pinned_results.values()))[f"{case.name}/int8"]
        if output.size and np.abs(expected).max() > 0:
            error = np.sqrt(np.mean((output - expected) ** 2))
            assert error <= most * np.sqrt(np.mean(expected**2)), case.name


def test_an_unknown_pin_is_refused(library: Path, tmp_path: Path) -> None:
    assert run_cases(library, "mmx", tmp_path / "none.npz") is None


def test_engine_variable_forces_the_function_body(library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGESPARSE_ENGINE", "body")
    engine = runtime_library.register(onnxruntime.SessionOptions(), str(library))
    assert str(engine) == "function body (EDGESPARSE_ENGINE=body)"


def test_a_damaged_library_gives_the_reason(tmp_path: Path) -> None:
    damaged = tmp_path / "edgesparse_kernels.so"
    damaged.write_bytes(b"not a library")
    engine = runtime_library.register(onnxruntime.SessionOptions(), str(damaged))
    assert engine.isa is None
    assert "Failed to load library" in engine.reason


def test_avxvnni_multiplies_bytes_in_one_instruction_and_holds_none_of_avx512(kernels_build: Path) -> None:
    """What no processor without AVX-VNNI can run shows here: how its products were compiled."""
    objects = list(kernels_build.rglob("avxvnni.cc.o"))
    if not objects:
        pytest.skip("this compiler does not build the table")
    command = ["objdump", "-d", "--no-show-raw-insn", str(objects[0])]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    products = [line for line in listed.splitlines() if "vpdpbusd" in line]
    assert len(products) > 100
    assert all("{vex}" in line for line in products)
    assert not re.search(r"%zmm|%k[0-7]|%[xy]mm(1[6-9]|2\d|3[01])", listed)
    assert "vpmaddwd" not in listed


def test_one_symbol_is_exported(library: Path) -> None:
    listed = subprocess.run(
        ["nm", "-D", "--defined-only", str(library)], capture_output=True, text=True, check=True
    )
    assert [line.split()[-1] for line in listed.stdout.splitlines()] == ["RegisterCustomOps"]
