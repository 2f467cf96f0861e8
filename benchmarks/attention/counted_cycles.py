"""Cycles of the AArch64 kernels without a board: blocks counted under an emulator, weighed by LLVM's models.

One call of attention runs in `profile_kernels` under qemu-user, which logs every basic block that it runs;
`llvm-mca` says how many cycles a block takes on a processor once it repeats, with every load in the first
cache and every branch foreseen. The sum over the blocks of our code is an estimate of the call, and says
nothing of memory. No board is timed.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections import Counter
from itertools import takewhile
from pathlib import Path

from tests.support.paths import ROOT

PROCESSORS = ("cortex-a53", "cortex-a72")
BUILD = ROOT / "build" / "arm64"
COMPILER, DISASSEMBLER = "aarch64-linux-gnu-g++", "aarch64-linux-gnu-objdump"
EMULATOR, MODEL = "qemu-aarch64-static", "llvm-mca"
# Debian's packages of them.
TOOLS = {
    "cmake": "cmake",
    COMPILER: "g++-aarch64-linux-gnu",
    DISASSEMBLER: "binutils-aarch64-linux-gnu",
    EMULATOR: "qemu-user-static",
    MODEL: "llvm",
}
# Tokens, heads, head size, block size, blocks kept: all of two blocks.
CALL = ("128", "1", "64", "64", "2")
# Calls of one run of the program that repeats the call twice: the first warms up.
RUNS = 3
REPEATS = 100
BRANCH = re.compile(r"(b|bl|br|blr|ret|b\.\w+|cbn?z|tbn?z)$")
TRACE = re.compile(rb"Trace \d+: \S+ \[[0-9a-f]+/([0-9a-f]+)/")

Code = dict[int, str]


def missing_tools() -> list[str]:
    """The Debian packages that a count needs and this machine lacks."""
    return [package for tool, package in TOOLS.items() if shutil.which(tool) is None]


def measure_speed_up(isa: str, precision: str, processor: str) -> dict[str, float]:
    """Instructions and cycles of the scalar table over those of `isa`."""
    program = build_program()
    slow, fast = (count_cycles(program, table, precision, processor) for table in ("scalar", isa))
    return {name: slow[name] / fast[name] for name in fast} | {"cycles_of_call": fast["cycles"] / RUNS}


def build_program() -> Path:
    """`profile_kernels` at fixed addresses, of the objects that `make build-arm64` compiles."""
    settings = ["-DEDGESPARSE_TESTS=ON", "-DCMAKE_SYSTEM_NAME=Linux", "-DCMAKE_SYSTEM_PROCESSOR=aarch64"]
    sources = ["-S", str(ROOT / "runtime" / "kernels"), "-B", str(BUILD)]
    _output(["cmake", *sources, *settings, f"-DCMAKE_CXX_COMPILER={COMPILER}"])
    _output(["cmake", "--build", str(BUILD), "--target", "profile_kernels", "--parallel", "2"])
    folders = [BUILD / "CMakeFiles" / f"{name}.dir" for name in ("kernel_objects", "profile_kernels")]
    objects = [str(path) for folder in folders for path in sorted(folder.rglob("*.o"))]
    program = BUILD / "profile_kernels_fixed"
    _output([COMPILER, "-static", "-no-pie", *objects, "-o", str(program)])
    return program


def count_cycles(program: Path, isa: str, precision: str, processor: str) -> dict[str, float]:
    """Instructions and estimated cycles of the call, of our own code alone."""
    code, ours = _disassemble(program)
    executed = _count_blocks(program, isa, precision, processor)
    blocks = {start: block_at(code, start) for start in executed if start in ours}
    cycles = cycles_of_blocks(blocks, processor)
    return {
        "instructions": float(sum(executed[start] * len(block) for start, block in blocks.items())),
        "cycles": sum(executed[start] * cycles[start] for start in blocks),
    }


def _output(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"`{' '.join(command[:3])}` failed:\n{(done.stdout + done.stderr)[-2000:]}")
    return done.stdout


def _disassemble(program: Path) -> tuple[Code, set[int]]:
    """Every instruction by its address, and the addresses that are in our own functions."""
    code: Code = {}
    ours: set[int] = set()
    is_ours = False
    for text in _output([DISASSEMBLER, "-d", "--no-show-raw-insn", str(program)]).splitlines():
        if head := re.match(r"[0-9a-f]+ <(.*)>:$", text):
            is_ours = "edgesparse" in head[1]
        elif found := re.match(r"\s+([0-9a-f]+):\t(.*)$", text):
            address = int(found[1], 16)
            code[address] = found[2].split("//")[0].strip()
            if is_ours:
                ours.add(address)
    return code, ours


def _count_blocks(program: Path, isa: str, precision: str, processor: str) -> Counter[int]:
    """How often each block was executed, by its first address."""
    command = [EMULATOR, "-cpu", processor, "-d", "exec,nochain", "-D"]
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        os.mkfifo(log)
        with subprocess.Popen(
            [*command, str(log), str(program), *CALL, precision, "2"],
            stdout=subprocess.PIPE,
            env={**os.environ, "EDGESPARSE_ISA": isa},
        ) as process:
            with log.open("rb") as lines:
                found = Counter(match[1] for line in lines if (match := TRACE.match(line)))
            printed = process.communicate()[0].decode()
    if process.returncode != 0 or f'"isa": "{isa}"' not in printed:
        raise RuntimeError(f"the {isa} table did not run under {EMULATOR} as {processor}")
    return Counter({int(address, 16): count for address, count in found.items()})


def block_at(code: Code, start: int) -> list[str]:
    """The instructions from `start` to the first branch, as the emulator translates them at once."""
    block: list[str] = []
    for address in takewhile(code.__contains__, range(start, start + 4096 - start % 4096, 4)):
        block.append(code[address])
        if BRANCH.match(code[address].split()[0]):
            break
    return block


def cycles_of_blocks(blocks: dict[int, list[str]], processor: str) -> dict[int, float]:
    """Cycles of each block while it repeats."""
    regions = [
        f"# LLVM-MCA-BEGIN {start}\n" + "\n".join(map(_relabel, block)) + "\n# LLVM-MCA-END"
        for start, block in blocks.items()
    ]
    with tempfile.NamedTemporaryFile("w", suffix=".s") as file:
        file.write("here:\n" + "\n".join(regions) + "\n")
        file.flush()
        options = ["-mtriple=aarch64", f"-mcpu={processor}", f"-iterations={REPEATS}", "-summary-view"]
        options += ["-resource-pressure=false", "-instruction-info=false"]
        printed = _output([MODEL, *options, file.name])
    found = re.findall(r"Code Region - (\d+)\n.*?Total Cycles: +(\d+)", printed, re.DOTALL)
    if len(found) != len(blocks):
        raise RuntimeError(f"`{MODEL}` gave the cycles of {len(found)} blocks of {len(blocks)}")
    return {int(start): int(total) / REPEATS for start, total in found}


def _relabel(instruction: str) -> str:
    """The instruction with a label in the place of an address."""
    return re.sub(r"\b[0-9a-f]+ <.*>", "here", instruction)
