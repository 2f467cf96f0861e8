"""Every script in `examples/` is short and prints its table; the slower ones where EDGESPARSE_LONG=1."""

from __future__ import annotations

import os
import runpy
from pathlib import Path

import pytest

from benchmarks.examples.run import EXAMPLES, differences, expected_table, run_example

MOST_LINES = 80
# These two need no process of their own.
QUICK = {"scikit_learn", "watch"}


def test_every_example_is_short_and_has_a_table() -> None:
    assert {script.stem for script in EXAMPLES} >= QUICK
    for script in EXAMPLES:
        assert len(script.read_text(encoding="utf-8").splitlines()) < MOST_LINES, script.name
        assert expected_table(script).strip(), script.name
    tables = {path.stem for path in (EXAMPLES[0].parent / "expected").iterdir()}
    assert tables == {script.stem for script in EXAMPLES}


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("script", EXAMPLES, ids=lambda script: script.stem)
def test_an_example_prints_its_table(script: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("sktime", reason="the data are in its package")
    if script.stem in QUICK:
        runpy.run_path(str(script), run_name="__main__")
        assert not differences(capsys.readouterr().out, expected_table(script))
        return
    if os.environ.get("EDGESPARSE_LONG") != "1":
        pytest.skip("set EDGESPARSE_LONG=1, or run make examples")
    result = run_example(script)
    assert not result.missing and not result.different, str(result)


def test_a_script_that_lacks_something_is_left_out_by_its_name(tmp_path: Path) -> None:
    for line, missing in (
        ("import no_such_package", "no_such_package"),
        ("exit('broker is not installed')", "broker"),
    ):
        script = tmp_path / "script.py"
        script.write_text(line, encoding="utf-8")
        found = run_example(script)
        assert found.missing == missing and not found.different
    script.write_text("exit('something else')", encoding="utf-8")
    assert run_example(script).different == ["something else"]


def test_the_comparison_sees_what_differs() -> None:
    table = "a 0.90 3\nb [0.10, x]\n"
    assert not differences("a 0.91 3\nb [0.11, x]\n", table)
    for other in (
        "a 0.93 3\nb [0.10, x]\n",
        "a 0.90 4\nb [0.10, x]\n",
        "a 0.90 3\n",
        "a 0.90 3 1\nb [0.10, x]\n",
    ):
        assert differences(other, table)
