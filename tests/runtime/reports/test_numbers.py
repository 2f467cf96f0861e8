"""Numbers, placeholders and commas of public reports; docs/reports.md."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.runtime.reports.reading import HALVES, columns, read


@pytest.mark.parametrize(
    ("content", "first"),
    [
        # pola-rs/polars#18797
        pytest.param("a;b\n1.299,99;1\n12,5;2\n", [1299.99, 12.5], id="decimal comma with thousands point"),
        pytest.param('a,b\n"1.299,99",1\n"1.250.000,5",2\n2,3\n', [1299.99, 1250000.5, 2], id="both, quoted"),
        pytest.param("a;b\n1.299,99;1\n1.299;2\n", [1299.99, 1299], id="a point that groups in the next row"),
        # pandas-dev/pandas#59299
        pytest.param(f'a,b\n{HALVES}"1,234.56",7\n', [0.5, 1.5, 2.5, 3.5, 1234.56], id="one late thousand"),
        # pandas-dev/pandas#65397
        pytest.param("a;b\n,5;1\n2,5;2\n", [0.5, 2.5], id="nothing before the comma"),
    ],
)
def test_value(tmp_path: Path, content: str, first: list[float]) -> None:
    assert columns(read(tmp_path, content))["a"] == pytest.approx(first)


@pytest.mark.parametrize(
    ("code", "others"),
    [
        # ropensci/nasapower#36
        pytest.param("-999", "20 21 22", id="-999 in the air"),
        pytest.param("-99", "20 21 22", id="-99 in the air"),
        pytest.param("-99.9", "0.5 0.6 0.7", id="-99.9"),
        # woink/upstate-fishing#51
        pytest.param("-999999", "3.5 3.6 3.7", id="a sensor that is offline"),
        # EnviroDIY/ModularSensors#443
        pytest.param("-9999", "1013 1009 1011", id="a library's default"),
        # JohnGavin/rallyr#30
        pytest.param("32767", "7 8 9", id="one placeholder repeated exactly"),
        pytest.param("9.96921e+36", "7 8 9", id="a fill value of netCDF"),
    ],
)
def test_placeholder_is_named(tmp_path: Path, code: str, others: str) -> None:
    """Which rows surround it must not change an answer: it stays a value, and is said to be one."""
    cells = [*others.split(), code, *others.split(), code]
    data = read(tmp_path, "a,b\n" + "".join(f"{cell},{i}\n" for i, cell in enumerate(cells)))
    assert columns(data)["a"][3] == pytest.approx(float(code))
    (note,) = data.notes
    assert f"channel a holds {float(code):.7g}, far from all its other values" in note


@pytest.mark.parametrize(
    "cells",
    [
        pytest.param("-1000 -999 -998 1", id="-999 among its like"),
        pytest.param("-32768 -20000 0 20000 32767", id="a full range"),
        pytest.param("-1 20 21 22", id="-1"),
        pytest.param("0 20 21 22", id="0"),
    ],
)
def test_an_ordinary_value_is_not_named(tmp_path: Path, cells: str) -> None:
    assert not read(tmp_path, "a,b\n" + "".join(f"{cell},1\n" for cell in cells.split())).notes
