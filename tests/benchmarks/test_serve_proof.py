"""How the proof of serving judges memory, and what its stored results are bound to."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from benchmarks.serving import versions
from benchmarks.serving.clients import SCHEMATHESIS_CONFIG
from benchmarks.serving.memory import UNKNOWN, Growth, growth, pooled
from benchmarks.support.import_closure import PACKAGES, ROOT, import_closure


def reloading(slope: float, seconds: float = 120.0) -> list[tuple[float, float]]:
    """Memory of a server that swaps a model of 25 MB each second, after a warm-up, and leaks `slope` MB/s."""
    draw = np.random.default_rng(0)
    times = np.arange(0, seconds, 0.1)
    swap = 25 * (times % 1 < 0.4) + draw.normal(0, 4, len(times)) + 6 * np.sin(times / 7)
    return list(zip(times, 110 + 20 * np.minimum(times / 10, 1) + swap + slope * times, strict=True))


@pytest.mark.parametrize("slope", [0.0, 0.25, -0.1])
def test_the_slope_is_found_under_the_swapping(slope: float) -> None:
    found = growth(reloading(slope), units_per_second=2.0)
    assert found.low <= slope / 2 <= found.high
    assert found.high - found.low < 0.1 and found.factor > 2
    # A quarter of a megabyte a reload does not pass for none.
    assert (found.low > 0.05) == (slope == 0.25)


def test_too_short_a_time_tells_nothing() -> None:
    assert growth(reloading(0.0, 15.0), 1.0) == growth([], 1.0) == growth(reloading(0.0), 0.0) == UNKNOWN
    assert UNKNOWN.high == math.inf


def test_runs_are_pooled_by_what_they_tell() -> None:
    both = pooled([Growth(0.0, 0.1), Growth(1.0, 0.1)])
    assert both.value == pytest.approx(0.5) and both.error == pytest.approx(0.1 / math.sqrt(2))
    assert pooled([Growth(0.3, 0.1), UNKNOWN]) == Growth(0.3, pytest.approx(0.1))
    assert pooled([UNKNOWN]) == UNKNOWN


def test_results_are_bound_to_what_runs_and_to_no_more() -> None:
    served = import_closure(versions.RUNTIME / "serving" / "server.py", *PACKAGES)
    names = {str(path.relative_to(ROOT)) for path in served}
    assert {"runtime/edgesparse_runtime/session.py", "runtime/edgesparse_runtime/bundle/read.py"} <= names
    assert not any(name.startswith(("edgesparse/", "export/")) for name in names)
    assert len({versions.version_of(part) for part in ("load", "kills", "mutations", "stream")}) == 4


def test_comments_and_docstrings_void_nothing_and_code_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "package"
    package.mkdir()
    (package / "part.py").write_text("VALUE = 1\n")
    (tmp_path / "use.py").write_text('"""Words."""\nfrom package import part\n')
    monkeypatch.setattr(versions, "ROOT", tmp_path)
    monkeypatch.setattr("benchmarks.support.import_closure.ROOT", tmp_path)
    monkeypatch.setattr(versions, "PACKAGES", (package,))
    monkeypatch.setattr(versions, "_PARTS", {"x": versions._Part((), ("use.py",), ())})

    def version() -> str:
        versions.version_of.cache_clear()
        versions._closure.cache_clear()
        return versions.version_of("x")

    try:
        before = version()
        (tmp_path / "use.py").write_text('"""Other words."""\n# Why.\nfrom package import part\n')
        assert version() == before
        (package / "part.py").write_text("VALUE = 2\n")
        assert version() != before
    finally:
        versions.version_of.cache_clear()
        versions._closure.cache_clear()


def test_the_configuration_of_the_foreign_client_is_there() -> None:
    assert SCHEMATHESIS_CONFIG.is_file()
