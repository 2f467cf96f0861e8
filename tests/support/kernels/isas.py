"""The instruction sets that the operator library has a table for, and those that this processor must load."""

from __future__ import annotations

from pathlib import Path

# The processor's flags, as /proc/cpuinfo names them, that each instruction set needs.
ISA_FLAGS: dict[str, frozenset[str]] = {
    "scalar": frozenset(),
    "avx2": frozenset({"avx2", "fma"}),
    "avxvnni": frozenset({"avx2", "fma", "avx_vnni"}),
    "avx512vnni": frozenset({"avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512_vnni", "fma"}),
    "amx": frozenset(
        {"avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512_vnni", "fma", "amx_tile", "amx_int8"}
    ),
    # In builds for tests: the code of `amx` over AVX2 and a matrix unit in plain C++.
    "amx_emulated": frozenset({"avx2", "fma"}),
    "neon": frozenset({"asimd"}),
    "neon_dotprod": frozenset({"asimd", "asimddp"}),
}


def expected_isas() -> set[str]:
    """The instruction sets that must load here, by the flags of this processor."""
    flags: set[str] = set()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("flags", "Features"):
            flags |= set(value.split())
    return {isa for isa, needed in ISA_FLAGS.items() if needed <= flags}
