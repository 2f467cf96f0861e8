"""Findings of data files: 25, 28."""

from __future__ import annotations

import io
import zipfile

import numpy as np

from benchmarks.findings.box import Box, Outcome


def wide_header(box: Box) -> Outcome:
    """A CSV file of 30,000 columns and one row."""
    path = box.folder / "wide.csv"
    path.write_text(",".join(f"c{i}" for i in range(30_000)) + "\n" + ",".join(["1"] * 30_000) + "\n")
    code = (
        "import sys, time\n"
        "try:\n    from edgesparse_runtime.data.readers.dataset import read_dataset\n"
        "except ImportError:\n    from edgesparse_runtime.readers.dataset import read_dataset\n"
        "start = time.process_time()\nread_dataset(sys.argv[1])\nprint(time.process_time() - start)"
    )
    ended = box.run(code, path, seconds=120)
    if ended.code != 0:
        raise RuntimeError(ended.last)
    seconds = float(ended.out)
    return Outcome(seconds > 3, f"{seconds:.1f} s of processor time")


def absurd_claim(box: Box) -> Outcome:
    """A .npz file whose array states 2^40 values."""
    path, header = box.folder / "x.npz", io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<f4", "fortran_order": False, "shape": (1 << 40, 1, 1)}
    )
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("X.npy", header.getvalue())
    ended = box.verb("run", box.bundle("m"), path)
    return Outcome(ended.code == 1, f"exit {ended.code}: {ended.last}")


ATTACKS = {25: wide_header, 28: absurd_claim}
