"""Cycles counted without a board: what is counted, and what is printed where the tools are missing."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from benchmarks.attention.counted_cycles import MODEL, block_at, cycles_of_blocks, missing_tools
from benchmarks.proofs.kernels import NEON, count_neon
from benchmarks.support.stored_cases import StoredCases


def test_without_the_tools_nothing_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "llvm" in missing_tools()
    lines = count_neon(StoredCases(tmp_path / "store"))
    assert len(lines) >= len(NEON)
    assert {entry["verdict"] for entry in lines} == {"SKIP"}
    assert all("apt-get install" in str(entry["figure"]) for entry in lines)


def test_a_block_ends_at_its_branch_or_at_the_page() -> None:
    code = {4096: "add x0, x0, #1", 4100: "cbnz x0, 1000 <f>", 4104: "ret", 8188: "nop", 8192: "ret"}
    assert block_at(code, 4096) == ["add x0, x0, #1", "cbnz x0, 1000 <f>"]
    assert block_at(code, 4104) == ["ret"]
    assert block_at(code, 8188) == ["nop"]


@pytest.mark.skipif(shutil.which(MODEL) is None, reason="needs llvm-mca (Debian: llvm)")
def test_a_chain_costs_more_than_independent_instructions() -> None:
    chain = ["fmla v0.4s, v1.4s, v2.4s"] * 8
    apart = [f"fmla v{i}.4s, v20.4s, v21.4s" for i in range(8)]
    found = cycles_of_blocks({4: chain, 8: apart, 12: ["b.ne 401000 <f+0x10>"]}, "cortex-a72")
    assert found[4] > 2 * found[8] > 2 * found[12] > 0
