"""The bounded reader of `.npy` and `.npz` content, held against numpy's."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest

from edgesparse_runtime.bundle.npz_archive import read_npz

ARRAYS = {
    "rows": np.arange(12.0).reshape(3, 4),
    "fortran": np.asfortranarray(np.arange(24, dtype=np.int16).reshape(2, 3, 4)),
    "big_endian": np.array([1, 2, 3], dtype=">f8"),
    "text": np.array(["walk", "läuft"]),
    "bytes": np.array([b"walk", b"run"]),
    "bool": np.array([True, False]),
    "time": np.array(["2024-01-30"], dtype="datetime64[s]"),
    "nothing": np.zeros((0, 3)),
    "single": np.array(3.5),
    "no_size": np.zeros((2,), dtype="U0"),
}


def npz(**arrays: object) -> bytes:
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]
    return stream.getvalue()


def test_it_reads_what_numpy_wrote(tmp_path: Path) -> None:
    (tmp_path / "x.npz").write_bytes(npz(**ARRAYS))
    for source in (npz(**ARRAYS), tmp_path / "x.npz"):
        found = read_npz(source)
        assert set(found) == set(ARRAYS)
        for name, expected in ARRAYS.items():
            np.testing.assert_array_equal(found[name], expected)
            assert found[name].dtype == expected.dtype


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (npz(x=np.array([{}], dtype=object)), "holds Python objects"),
        (npz(x=np.zeros(1 << 20)), "larger than 1 MB"),
        (npz(x=np.zeros(1 << 16), y=np.zeros(1 << 16), z=np.zeros(1)), "z.npy is larger than 0 MB"),
        (b"PK", "damaged"),
        (b"", "damaged"),
        (npz(x=np.zeros(9))[:-30], "damaged"),
    ],
)
def test_what_it_refuses(content: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_npz(content, most_bytes=1 << 20)
