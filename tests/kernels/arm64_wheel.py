"""The AArch64 wheel with the AArch64 onnxruntime under an emulated Python: `make test-arm64-wheel`.

Opt-in, because it fetches some 60 MB: Debian's AArch64 Python, and onnxruntime and numpy for it. Needs Debian
12 (its Python 3.11), `qemu-user-static` and `g++-aarch64-linux-gnu`; changes build/arm64-wheel alone. Float32
must equal the float64 reference within ENGINES, int8 must give the bits that this machine's scalar table
gives, and the registered library must be what runs.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import numpy as np

from tests.kernels.pinned import run_cases
from tests.support.kernels.body_model import make_model_with_body
from tests.support.kernels.build import build_kernels
from tests.support.kernels.cases import CASES
from tests.support.kernels.reference import sparse_attention
from tests.support.kernels.wheels import build_arm64
from tests.support.paths import ROOT
from tests.support.tolerances import ENGINES

FOLDER = ROOT / "build" / "arm64-wheel"
PYTHON = "python3.11"
PACKAGES = [
    f"{PYTHON}-minimal",
    f"lib{PYTHON}-minimal",
    f"lib{PYTHON}-stdlib",
    *("libc6", "libgcc-s1", "libstdc++6", "zlib1g", "libexpat1", "libffi8", "libssl3", "libbz2-1.0"),
    *("liblzma5", "libsqlite3-0", "libuuid1"),
]
# qemu-user hands the host's own file to the program, and onnxruntime crashes on a processor that is not Arm.
PROCESSOR = """processor\t: {index}
BogoMIPS\t: 50.00
Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x3
CPU part\t: 0xd0b
CPU revision\t: 1

"""


def command(arguments: list[str], folder: Path = ROOT, **changes: str) -> str:
    """Its standard output; ends the program where it fails."""
    done = subprocess.run(
        arguments, cwd=folder, env=os.environ | changes, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(arguments[:4])} ... exited {done.returncode}\n{done.stderr[-2000:]}")
    return done.stdout


def unpack_system(root: Path) -> None:
    """Debian's AArch64 Python and its libraries into `root`, by an apt that knows nothing of this machine."""
    state = FOLDER / "apt"
    (state / "lists" / "partial").mkdir(parents=True, exist_ok=True)
    (state / "cache" / "archives" / "partial").mkdir(parents=True, exist_ok=True)
    (state / "status").touch()
    settings = {
        "Dir::State": state,
        "Dir::State::status": state / "status",
        "Dir::Cache": state / "cache",
        "APT::Architecture": "arm64",
        "APT::Architectures": "arm64",
        "APT::Sandbox::User": "",
    }
    apt = ["apt-get", "-qq", *(part for x, y in settings.items() for part in ("-o", f"{x}={y}"))]
    command([*apt, "update"])
    command([*apt, "download", *PACKAGES], state)
    for package in state.glob("*.deb"):
        command(["dpkg", "-x", str(package), str(root)])
    (root / "proc").mkdir(exist_ok=True)
    (root / "proc" / "cpuinfo").write_text("".join(PROCESSOR.format(index=i) for i in range(2)))


def unpack_wheels(site: Path) -> None:
    """Our wheel, cross-compiled, and this environment's versions of onnxruntime and numpy for AArch64."""
    wheels = FOLDER / "wheels"
    shutil.rmtree(wheels, ignore_errors=True)
    pip = [sys.executable, "-m", "pip"]
    platforms = [x for v in ("2_28", "2_27", "2_17") for x in ("--platform", f"manylinux_{v}_aarch64")]
    names = [f"{name}=={version(name)}" for name in ("onnxruntime", "numpy")]
    fixed = ["--no-deps", "--only-binary", ":all:", "--python-version", PYTHON.removeprefix("python")]
    command([*pip, "download", "-q", *fixed, *platforms, "-d", str(wheels), *names])
    build_arm64(wheels)
    for wheel in wheels.glob("*.whl"):
        zipfile.ZipFile(wheel).extractall(site)


def store_models(folder: Path) -> None:
    """Every case in both precisions as NAME.onnx, function body included, and its inputs as NAME.npz."""
    folder.mkdir()
    for case in CASES:
        for precision in ("float32", "int8"):
            model = make_model_with_body(asdict(case.node(precision)))
            (folder / f"{case.name}-{precision}.onnx").write_bytes(model.SerializeToString())
            np.savez(folder / f"{case.name}-{precision}.npz", **case.feeds())


def main() -> None:
    """Prints one line when all is well; a failed comparison ends in its traceback."""
    root, site, models = (FOLDER / name for name in ("root", "site", "models"))
    for folder in (root, site, models):
        shutil.rmtree(folder, ignore_errors=True)
    unpack_system(root)
    unpack_wheels(site)
    store_models(models)
    shutil.copy(Path(__file__).with_name("emulated.py"), FOLDER)
    program = ["qemu-aarch64-static", "-L", str(root), str(root / "usr" / "bin" / PYTHON)]
    arguments = [str(FOLDER / "emulated.py"), str(models)]
    facts = json.loads(command([*program, *arguments], FOLDER, PYTHONPATH=str(site)).splitlines()[-1])
    assert facts["engine"] == "native (neon_dotprod)", facts
    scalar = run_cases(build_kernels() / "edgesparse_kernels.so", "scalar", FOLDER / "scalar.npz")
    assert scalar is not None
    with np.load(models / "outputs.npz") as outputs:
        for case in CASES:
            expected, _ = sparse_attention(**case.feeds(), attributes=case.node())
            found = outputs[f"{case.name}-float32"]
            np.testing.assert_allclose(
                found, expected, rtol=ENGINES.relative, atol=ENGINES.absolute, err_msg=case.name
            )
            assert outputs[f"{case.name}-int8"].tobytes() == scalar[f"{case.name}/int8"].tobytes(), case.name
    print(f"{len(CASES)} cases agree: {facts['engine']}, onnxruntime {facts['onnxruntime']}, AArch64")


if __name__ == "__main__":
    main()
