"""What the parts of `make prove-target` share: where results are stored, and for which code."""

from __future__ import annotations

from pathlib import Path

from benchmarks.attention.kernel_programs import hash_sources
from benchmarks.support.import_closure import version_behind
from benchmarks.support.machine import machine_facts
from benchmarks.support.settings import QUICK, SCRATCH
from benchmarks.support.stored_cases import StoredCases

STORE = SCRATCH / "target"
SETTINGS = ["training.epochs=10"] if QUICK else []


def code_version() -> str:
    """Changes with the kernels, and with every Python file that the proof may run."""
    return f"{hash_sources()}-{version_behind('benchmarks/proofs/target.py')}"


def bundles_folder() -> Path:
    """Where models trained for the proof lie."""
    folder = STORE / f"bundles-{'quick' if QUICK else 'full'}-{code_version()}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def open_store() -> StoredCases:
    return StoredCases(STORE, code_version(), machine_facts(), QUICK)
