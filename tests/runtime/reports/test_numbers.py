"""Numbers, placeholders and commas of public reports; docs/reports.md."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgesparse_runtime.errors import InputError
from tests.runtime.reports.reading import columns, read

HALVES = "".join(f"{i}.5,{i}\n" for i in range(4))


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
    ("content", "message"),
    [
        # pola-rs/polars#18797
        pytest.param(
            "a;b\n1.299;0,5\n2.500;1,5\n",
            "row 2, column b must be a number; got '0,5'. Write a decimal point.",
            id="a point that may group beside a decimal comma",
        ),
        pytest.param(
            "a;b\n1 299,99;1\n", "row 2, column a must be a number; got '1 299,99'", id="blank groups"
        ),
        # pandas-dev/pandas#59299
        pytest.param(
            f'a,b\n{HALVES}"1,23",7\n', "row 6, column a must be a number; got '1,23'", id="late comma's row"
        ),
        pytest.param(
            f'a,b\n{HALVES}"1,234.5",7\nx9,8\n',
            "row 7, column a must be a number; got 'x9'",
            id="late word's row",
        ),
        # pandas-dev/pandas#38420
        pytest.param(
            "a;b\n1a.2,3;1\n", "row 2, column a must be a number; got '1a.2,3'", id="letters inside"
        ),
        pytest.param("a;b\n1,2,3;1\n", "row 2, column a must be a number; got '1,2,3'", id="two commas"),
        pytest.param("a;b\n1.2.3;1\n", "row 2, column a must be a number; got '1.2.3'", id="two points"),
        pytest.param("a;b\n1,,234;1\n", "row 2, column a must be a number; got '1,,234'", id="comma twice"),
        # pandas-dev/pandas#65397
        pytest.param(
            "a;b\n1 ,;1\n2,5;2\n", "row 2, column a must be a number; got '1 ,'", id="blank and comma"
        ),
        pytest.param(
            'a,b\n"1, 234",1\n', "row 2, column a must be a number; got '1, 234'", id="comma and blank"
        ),
        # SheetJS/sheetjs#2236
        pytest.param(
            "a,b\n1,5,2,5\n1,6,2,6\n",
            "row 2 must have 2 cells; got 4. Where commas are decimal, another delimiter (;) must stand",
            id="decimal comma splits cells",
        ),
        pytest.param(
            "a\n1,5\n2,5\n",
            "row 2 must have 1 cells; got 2. Where commas are decimal",
            id="one column splits",
        ),
    ],
)
def test_refusal(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        read(tmp_path, content)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


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
