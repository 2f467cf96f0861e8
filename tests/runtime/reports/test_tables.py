"""Headers, marks, delimiters and lines of public reports; docs/reports.md."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgesparse_runtime.errors import InputError
from tests.runtime.reports.reading import BODY, columns, read

SAME = {"a": [5.0, 7.0]}


@pytest.mark.parametrize(
    "content",
    [
        # alexcaza/export-to-csv#43
        pytest.param("sep=~\n" + BODY.replace(",", "~"), id="a delimiter named in the first line"),
        pytest.param("sep=\t\n" + BODY.replace(",", "\t"), id="a tab named in the first line"),
        pytest.param('"sep=;"\n' + BODY.replace(",", ";"), id="a delimiter named in quotes"),
        pytest.param("sep=;;;\r\n" + BODY.replace(",", ";"), id="a delimiter's line saved again"),
        # IATI/ckanext-iati#354
        pytest.param("\ufeff" + BODY, id="byte order mark"),
        pytest.param('\ufeff"time","a"\n0,5\n1,7\n', id="byte order mark before a quote"),
        # azavea/django-queryset-csv#71
        pytest.param("\ufeff\ufeff" + BODY, id="two byte order marks"),
        pytest.param("\u00ef\u00bb\u00bf" + BODY, id="byte order mark read as Latin-1"),
        pytest.param("\ufeff\u00ef\u00bb\u00bf" + BODY, id="both marks"),
        pytest.param(("\ufeff" + BODY).encode("utf-16"), id="two marks in UTF-16"),
        pytest.param(BODY.replace("time", "\u200btime\u200e"), id="invisible characters around a name"),
        # ngscopeclient/scopehal#408, ClassicMiniDIY/UltraLog#78
        pytest.param("# scope 3\n# 2 channels\n" + BODY, id="comments before the header"),
        pytest.param("# scope 3\n\n# 2 channels\n\n" + BODY, id="blank lines between comments"),
        pytest.param("# rate, 50\n" + BODY, id="a comment with as many cells as the header"),
        pytest.param("# " + BODY, id="a header behind a mark"),
        pytest.param(
            "#" + BODY.replace(",", ";").replace("5", "5,0"), id="such a header before decimal commas"
        ),
        # flysight/flysight-2-firmware#61
        pytest.param(BODY.replace("\n", ",\n"), id="a delimiter after every line"),
        # gr8b/zabbix-module-sqlexplorer#18
        pytest.param('"time","a\n[V]"\n0,5\n1,7\n', id="a line break in a name"),
        pytest.param(BODY.replace("5", '"5\n"'), id="a line break after a number"),
        pytest.param(BODY.replace("\n", "\r"), id="carriage returns alone"),
        pytest.param(BODY.replace("\n", "\r\r\n"), id="carriage returns twice"),
    ],
)
def test_value(tmp_path: Path, content: str | bytes) -> None:
    data = read(tmp_path, content)
    assert [row for row in columns(data).values()] == list(SAME.values())
    assert data.starts is not None
    assert data.starts.tolist() == ["0"]


def test_records_of_several_kinds_share_their_times(tmp_path: Path) -> None:
    """flysight/flysight-2-firmware#61: a note says that rows are mixed."""
    data = read(tmp_path, "time,kind,a\n" + "".join(f"{i // 2},{i % 2},{i}\n" for i in range(8)))
    assert "several machines are mixed: name their column with --group-column" in data.notes[0]


def test_names_of_arrays_must_differ(tmp_path: Path) -> None:
    """myokit/myokit#1090, in an archive."""
    np.savez(tmp_path / "x.npz", X=np.zeros((1, 2, 4)), channels=["a", "\ufeffa"])
    with pytest.raises(InputError, match="column names must differ; a stands twice"):
        read(tmp_path, (tmp_path / "x.npz").read_bytes(), "x.npz")
