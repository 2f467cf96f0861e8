"""Data files: small ones that would take long or much memory, and odd values, end in one line."""

from __future__ import annotations

import io
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest

from edgesparse_runtime.data.readers import table
from edgesparse_runtime.data.readers.dataset import read_dataset
from edgesparse_runtime.errors import InputError
from edgesparse_runtime.measure.nodes import module_of


@pytest.mark.parametrize("names", ["distinct", "the last one twice"])
def test_a_header_of_many_columns_is_read_in_linear_time(tmp_path: Path, names: str) -> None:
    """80,000 columns once took a minute."""
    header = [f"c{i}" for i in range(100_000)]
    if names != "distinct":
        header[-1] = header[0]
    path = tmp_path / "wide.csv"
    path.write_text(",".join(header) + "\n" + ",".join(["1"] * len(header)) + "\n")
    start = time.process_time()
    if names == "distinct":
        assert len(table.read_csv_table(path).columns) == len(header)
    else:
        with pytest.raises(InputError, match="column names must differ; c0 stands twice"):
            table.read_csv_table(path)
    assert time.process_time() - start < 3


def npy_header(shape: tuple[int, ...], kind: str = "<f4") -> bytes:
    content = io.BytesIO()
    np.lib.format.write_array_header_1_0(content, {"descr": kind, "fortran_order": False, "shape": shape})
    return content.getvalue()


@pytest.mark.parametrize(
    ("shape", "data"),
    [
        ((1 << 40, 1, 1), b""),
        ((1 << 40, 0, 1 << 40), b""),
        ((1 << 62, 1 << 62, 16), b""),
        ((-1, 1, 8), bytes(64)),
        ((1, 1, 8), bytes(31)),
    ],
)
def test_an_array_that_claims_absurd_sizes_ends_in_a_line(
    tmp_path: Path, shape: tuple[int, ...], data: bytes
) -> None:
    path = tmp_path / "x.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("X.npy", npy_header(shape) + data)
    with pytest.raises(InputError) as caught:
        read_dataset(path)
    assert "\n" not in str(caught.value)


def test_equal_values_of_a_parquet_file_are_counted_before_they_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """900 kB once took 13 GB."""
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "x.parquet"
    parquet.write_table(pa.table({"v": pa.array(np.zeros(2_000_000))}), path, compression="zstd")
    assert path.stat().st_size < 10_000
    monkeypatch.setattr(table, "free_memory", lambda: 30_000_000)
    with pytest.raises(InputError, match=r"its 2000000 rows of 1 columns take at least 0\.0 GB"):
        table.read_parquet_table(path)


@pytest.mark.parametrize("kind", ["string", "large_string", "binary"])
def test_equal_texts_of_a_parquet_file_are_one_text(tmp_path: Path, kind: str) -> None:
    """A text of 1 MB that stands in a million rows would be a terabyte."""
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "x.parquet"
    texts = pa.array(["x" * 1000] * 500 + [None, "y"], getattr(pa, kind)())
    parquet.write_table(pa.table({"label": texts, "v": pa.array(np.zeros(502))}), path)
    cells = table.read_parquet_table(path).columns["label"]
    assert [*cells[-3:]] == ["x" * 1000, None, "y"]
    assert len({id(cell) for cell in cells}) == 3


@pytest.mark.parametrize("scopes", ["{[]:1}", "[" * 100_000, "['a', " * 50_000, "__import__('os')", "[1, 2]"])
def test_odd_scopes_name_no_module_and_end_in_a_sentence(scopes: str) -> None:
    assert module_of(scopes) is None
