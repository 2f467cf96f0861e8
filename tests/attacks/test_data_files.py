"""Data files: small ones that would take long or much memory, and odd values, end in one line."""

from __future__ import annotations

import io
import math
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest

from edgesparse_runtime.bundle.npz_archive import read_npz
from edgesparse_runtime.data.readers import table
from edgesparse_runtime.data.readers.dataset import read_dataset
from edgesparse_runtime.data.readers.parquet_pages import unpacked_size
from edgesparse_runtime.errors import InputError
from edgesparse_runtime.measure.nodes import module_of
from tests.support.cost import costs


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


def write_member(path: Path, content: bytes, kind: int = zipfile.ZIP_DEFLATED) -> None:
    with zipfile.ZipFile(path, "w", kind) as archive:
        archive.writestr("X.npy", content)


def zeros(shape: tuple[int, ...], kind: str = "<f4") -> bytes:
    return npy_header(shape, kind) + bytes(math.prod(shape) * np.dtype(kind).itemsize)


def read_quickly(path: Path, message: str) -> None:
    """One line, in no time and next to no memory."""
    start = time.process_time()
    with costs() as cost, pytest.raises(InputError, match=message) as caught:
        read_dataset(path)
    assert "\n" not in str(caught.value)
    assert time.process_time() - start < 1
    assert cost.held < 20 << 20


@pytest.mark.parametrize(
    ("shape", "kind", "message"),
    [
        ((1, 1, 40 << 20), zipfile.ZIP_DEFLATED, "unpacks to 160 MB, and 100 times its own size"),
        ((1, 1, 100), zipfile.ZIP_BZIP2, "must be stored or deflated"),
        ((1, 1, 100), zipfile.ZIP_LZMA, "must be stored or deflated"),
        ((1 << 40, 0, 1), zipfile.ZIP_DEFLATED, "must hold at most 100000 series"),
        ((200_000, 1, 1), zipfile.ZIP_DEFLATED, "must hold at most 100000 series"),
    ],
    ids=["zeros", "bzip2", "lzma", "series without steps", "short series"],
)
def test_a_small_archive_does_not_unpack_to_a_large_one(
    tmp_path: Path, shape: tuple[int, ...], kind: int, message: str
) -> None:
    """1 MB once took minutes: zipfile copied a gigabyte for each piece of it."""
    write_member(tmp_path / "x.npz", zeros(shape), kind)
    read_quickly(tmp_path / "x.npz", message)


def test_an_array_that_nothing_is_read_from_is_not_unpacked(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("X.npy", zeros((1, 1, 8)))
        archive.writestr("junk.npy", zeros((40 << 20,)))
    with costs() as cost:
        data = read_dataset(tmp_path / "x.npz")
    assert "junk is not read" in data.notes[0]
    assert cost.held < 20 << 20


def test_a_large_array_is_read_in_linear_time(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    values = np.random.default_rng(0).normal(size=(1, 1, 4 << 20)).astype(np.float32)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("X.npy", npy_header(values.shape) + values.tobytes())
    np.testing.assert_array_equal(read_npz(path)["X"], values)


def test_a_dictionary_page_that_expands_is_refused_by_its_own_size(tmp_path: Path) -> None:
    """The footer is somebody's word; pyarrow allocates what the page's own header states."""
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "x.parquet"
    parquet.write_table(pa.table({"label": ["x" * (80 << 20)]}), path, compression="zstd")
    assert path.stat().st_size < 200_000
    read_quickly(path, r"must unpack to at most 64 MB or 100 times its own size; got \d+ MB")


def test_rows_that_take_no_bytes_are_refused(tmp_path: Path) -> None:
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "x.parquet"
    column = pa.array(np.zeros(3_000_000, np.int8))
    parquet.write_table(pa.table({f"c{i}": column for i in range(7)}), path, compression="zstd")
    read_quickly(path, "must hold at most 20000000 values for its size")


def test_one_row_of_endless_values_is_refused(tmp_path: Path) -> None:
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "x.parquet"
    parquet.write_table(pa.table({"v": pa.array([np.zeros(5_000_000, np.int8)])}), path, compression="zstd")
    read_quickly(path, "column v must hold one value per row; it holds lists")


@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("compression", ["zstd", "none"])
def test_pages_state_what_they_unpack_to(tmp_path: Path, version: str, compression: str) -> None:
    """Sizes of all pages, without a footer's word, are those that an honest footer states."""
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "x.parquet"
    rows = 30_000
    columns = {
        "label": ["ab", None, "c" * 1000] * (rows // 3),
        "v": np.arange(rows) / 7,
        "ok": np.arange(rows) % 2 == 0,
    }
    parquet.write_table(
        pa.table(columns),
        path,
        compression=compression,
        data_page_version=version,
        data_page_size=4096,
        row_group_size=9_000,
    )
    with parquet.ParquetFile(path) as file, path.open("rb") as stream:
        groups = map(file.metadata.row_group, range(file.metadata.num_row_groups))
        stated = sum(group.column(i).total_uncompressed_size for group in groups for i in range(3))
        pages = unpacked_size(stream, file.metadata)
    # The footer counts the pages' headers as well.
    assert 0.9 * stated < pages < stated


_ODD = 130_000
_TS = "@timeStamps {}\n@classLabel false\n@data\n"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("x.ts", _TS.format("false") + "(" * _ODD, "must be a number"),
        ("x.ts", _TS.format("false") + "(a)" * _ODD + ":1", "must be a number"),
        ("x.ts", _TS.format("true") + "(" + " " * _ODD, "must be pairs"),
        ("x.ts", _TS.format("true") + "(" + ", " * _ODD, "must be pairs"),
        ("x.ts", _TS.format("true") + "(1,2)" + " " * _ODD + "x", "must be pairs"),
        ("x.tsv", "1\t" + "1" * _ODD + "x\n", "must be a number"),
        ("x.csv", "a" + " " * _ODD + "b\nx\n", "must be a number"),
        ("x.csv", "a\n" + "1" * _ODD + "x\n", "must be a number"),
        ("x.csv", "time,a\n2020-01-01" + " " * _ODD + "x,1\n", "time"),
    ],
    ids=lambda value: None if len(value) > 8 else value,
)
def test_one_endless_line_is_refused_in_linear_time(
    tmp_path: Path, name: str, text: str, message: str
) -> None:
    """Patterns that try every way to split a line once took hours for 130 kB."""
    path = tmp_path / name
    path.write_text(text)
    start = time.process_time()
    with pytest.raises(InputError, match=message) as caught:
        read_dataset(path)
    assert len(str(caught.value)) < 1000
    assert time.process_time() - start < 1


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
