"""Which processor this is, and which of its instruction sets matter here."""

from __future__ import annotations

import platform
from pathlib import Path

# Instruction sets that matter to the kernels, as Linux names them.
_FLAGS = ("avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "avx_vnni", "amx_int8", "asimd", "asimddp")


def cpu_name() -> str:
    """The processor's name."""
    for line in _cpuinfo():
        if line.lower().startswith(("model name", "hardware")):
            return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def instruction_sets() -> list[str]:
    """Those of the instruction sets that matter here which this processor has."""
    for line in _cpuinfo():
        if line.lower().startswith(("flags", "features")):
            present = set(line.split(":", 1)[1].split())
            return [flag for flag in _FLAGS if flag in present]
    return []


def _cpuinfo() -> list[str]:
    try:
        return Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
    except OSError:
        return []
