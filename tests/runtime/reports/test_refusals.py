"""What public reports hold and no rule can read is refused in one line; docs/reports.md."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.runtime.reports.reading import BODY, HALVES, refusal


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
        # PlotJuggler/PlotJuggler#734
        pytest.param(
            "Logger,X7\nRate,50\ntime,a,b\n0,1,2\n",
            "row 3 must have 2 cells; got 3. If it is the header, start the lines above it with #",
            id="metadata before the header",
        ),
        pytest.param(
            "Measured at night\n\ntime,a\n0,1\n",
            "row 3 must have 1 cells; got 2. If it is the header, start the lines above it with #",
            id="a title before the header",
        ),
        pytest.param(
            "Serial,123\nRate,50\ntime,a\n0,1\n", "row 2, column Serial must be a number", id="as wide"
        ),
        pytest.param(
            BODY + "Mean,6\n", "row 4: column time must be a time; got 'Mean'", id="a sum below the data"
        ),
        # open-simulation-platform/libcosim#725
        pytest.param(
            "time,a\n0,101\nReal,Real\n0,5\n",
            "row 3, column a must be a number; got 'Real'",
            id="several headers",
        ),
        pytest.param("time,a\ns,V\n0,5\n", "row 2, column a must be a number; got 'V'", id="a row of units"),
        # myokit/myokit#1090
        pytest.param("time,a,a\n0,1,2\n", "column names must differ; a stands twice", id="a name twice"),
        pytest.param(
            "time,a, a\u200b\n0,1,2\n",
            "column names must differ; a stands twice",
            id="a name twice but for blanks",
        ),
        # flysight/flysight-2-firmware#61
        pytest.param(
            BODY.replace("0,5\n", "0,5,\n"), "row 2 must have 2 cells; got 3", id="a delimiter after a row"
        ),
        pytest.param(
            "$VAR,FW,1\n$COL,IMU,time,a\n$IMU,0,1,2\n",
            "row 2 must have 3 cells; got 4. If it is the header",
            id="records of several kinds",
        ),
        # gr8b/zabbix-module-sqlexplorer#18
        pytest.param(
            'time,a,note\n0,1,"x\n1,2,z\n', "row 2: the row must be CSV", id="a quote that never ends"
        ),
        pytest.param(
            'time,a,note\n0,1,"x\ny"\n1,q,"z"\n',
            "row 4, column a must be a number; got 'q'",
            id="a line after a break",
        ),
        # azavea/django-queryset-csv#71
        pytest.param(
            BODY + "\ufeff2,9\n",
            "row 4: column time must be a time; got '\\ufeff2'",
            id="marked files joined",
        ),
    ],
)
def test_refusal(tmp_path: Path, content: str, message: str) -> None:
    assert message in refusal(tmp_path, content)
