"""Energy: read from counters that a test turns, which start again; stated watts where there are none."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgesparse_runtime.measure.decision.energy import energy_facts, measure_joules, read_counters
from edgesparse_runtime.measure.decision.facts import poc_facts
from edgesparse_runtime.measure.decision.page import decision_page
from edgesparse_runtime.measure.report.words import LANGUAGES
from tests.runtime.measure.decision_results import make_result
from tests.runtime.measure.test_decision_page import unknown_figures

RANGE = 1000.0


def set_counter(root: Path, name: str, joules: float) -> None:
    folder = root / name
    folder.mkdir(exist_ok=True)
    (folder / "energy_uj").write_text(f"{joules % RANGE * 1e6:.0f}\n")
    (folder / "max_energy_range_uj").write_text(f"{RANGE * 1e6:.0f}\n")


def test_all_packages_count_and_their_parts_do_not(tmp_path: Path) -> None:
    spent = [990.0, 5.0]

    def call() -> None:
        spent[:] = [spent[0] + 3.0, spent[1] + 1.0]
        for name, joules in zip(("intel-rapl:0", "intel-rapl:1"), spent, strict=True):
            set_counter(tmp_path, name, joules)

    for name, joules in zip(("intel-rapl:0", "intel-rapl:1"), spent, strict=True):
        set_counter(tmp_path, name, joules)
    # A part of a package, which is in it already.
    set_counter(tmp_path, "intel-rapl:0:0", 7.0)
    # The first one passes its end on the way.
    assert measure_joules(call, 0.02, tmp_path) == pytest.approx(4.0, abs=1e-4)


def test_without_a_counter_nothing_is_called(tmp_path: Path) -> None:
    assert measure_joules(lambda: pytest.fail("called"), 1.0, tmp_path) is None
    (tmp_path / "intel-rapl:0").mkdir()
    assert read_counters(tmp_path) == {}


def test_a_measurement_goes_before_what_is_stated() -> None:
    models = {"a": {"joules": 0.002, "p50": 1.5}, "b": {"joules": None, "p50": 2.0}}
    assert energy_facts(models, "a", None, 6.0) == {
        "source": "counter",
        "use": 2.0,
        "base": None,
        "watts": None,
    }
    assert energy_facts(models, "b", "a", 6.0) == {"source": "stated", "use": 12.0, "base": 9.0, "watts": 6.0}
    assert energy_facts(models, "b", None, None) is None


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("watts", [None, 6.5])
def test_the_page_says_where_the_figure_is_from(watts: float | None, language: str) -> None:
    result = make_result()
    for i, row in enumerate(result["models"].values()):
        row["latency"]["joules"] = None if watts else 0.01 + 0.001 * i
    facts = poc_facts(result, 50.0, watts)
    page = decision_page(facts, language)
    assert not unknown_figures(page, facts, language)
    assert ("RAPL" in page) == (watts is None) and ("6.5" in page) == (watts is not None)
