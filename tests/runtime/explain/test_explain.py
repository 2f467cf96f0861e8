"""`edgesparse explain` and `Session.explain`: one result, as text and JSON, with or without attention."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from edgesparse_runtime.bundle.read import Bundle, open_bundle
from edgesparse_runtime.bundle.write import copy_bundle
from edgesparse_runtime.cli.app import run
from edgesparse_runtime.data.series_set import SeriesSet
from edgesparse_runtime.errors import BundleError, InputError
from edgesparse_runtime.explain.prototypes import FILE, read_prototypes
from edgesparse_runtime.explain.routing import NO_ATTENTION
from edgesparse_runtime.session import Session


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, series: SeriesSet) -> Path:
    path = tmp_path_factory.mktemp("explain") / "pump.npz"
    few = series.take(range(6))
    np.savez(path, X=few.to_batch(), y=few.labels)
    return path


def test_session_and_command_line_tell_the_same(
    shared_bundle: Bundle, series: SeriesSet, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["explain", str(shared_bundle.path), str(data), "--index", "1", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["schema"] == "edgesparse.explain/1"
    found = Session(shared_bundle).explain(series.take([1]))
    assert {k: printed[k] for k in found} == found
    assert found["predicted"] == series.labels[1]  # type: ignore[index]
    assert found["influence"]["predictions"] < 30
    assert found["nearest"]["class"] == found["against"]


def test_text_says_what_it_is_not(
    shared_bundle: Bundle, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The waves are the same everywhere: a map of places must not be relied on."""
    code = run(["explain", str(shared_bundle.path), str(data), "--index", "1", "--check"])
    shown = capsys.readouterr()
    assert "What the model computed, not why it decided." in shown.out
    assert (code, "Do not rely on this map." in shown.out) in ((3, True), (0, False))


def test_a_set_is_told_by_class(
    shared_bundle: Bundle, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["explain", str(shared_bundle.path), str(data), "--most", "4", "--json"]) == 0
    shown = capsys.readouterr()
    found = json.loads(shown.out)
    assert {c["name"] for c in found["classes"]} == {"fast", "slow"}
    assert (found["windows"], found["total"]) == (4, 6) and "4 of 6 windows" in shown.err
    assert all(sum(c["share"]) == pytest.approx(1, abs=1e-3) for c in found["classes"])


def test_a_dense_model_says_that_it_has_no_routing(shared_bundle: Bundle, series: SeriesSet) -> None:
    found = Session(shared_bundle, attention="sparse")
    found.is_sparse = False
    result = found.explain(series.take([0]))
    assert result["routing"] is None and result["routing_note"] == NO_ATTENTION


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--index", "6"], "must be 0 to 5; got 6"),
        (["--against", "broken"], "must be a class of the model; got broken. It has fast, slow"),
        (["--most", "0"], "must be at least 1; got 0"),
    ],
)
def test_wrong_arguments_are_refused(
    shared_bundle: Bundle, data: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    assert run(["explain", str(shared_bundle.path), str(data), *arguments]) == 2
    assert words in capsys.readouterr().err


def test_more_than_one_window_is_refused(shared_bundle: Bundle, series: SeriesSet) -> None:
    with pytest.raises(InputError, match="one window; got 2"):
        Session(shared_bundle).explain(series.take([0, 1]))


def test_a_bundle_holds_typical_windows_of_each_class(shared_bundle: Bundle, series: SeriesSet) -> None:
    prototypes = read_prototypes(shared_bundle)
    assert prototypes is not None and set(prototypes.classes) == {0, 1}
    for window, k, row in zip(prototypes.windows, prototypes.classes, prototypes.rows, strict=True):
        assert shared_bundle.classes[k] == series.labels[row]  # type: ignore[index]
        assert np.array_equal(window, series.series[row])


def test_a_bundle_without_them_opens_and_explains_as_before(
    shared_bundle: Bundle, series: SeriesSet, tmp_path: Path
) -> None:
    old = copy_bundle(shared_bundle, tmp_path / "old.edgesparse", {}, {}, without=[FILE])
    found = Session(open_bundle(old.path)).explain(series.take([0]))
    assert found["nearest"] is None


def test_windows_of_another_shape_are_refused(shared_bundle: Bundle, tmp_path: Path) -> None:
    np.savez(tmp_path / "p.npz", windows=np.zeros((1, 9, 4), np.float32), classes=[0], rows=[0])
    files = {FILE: (tmp_path / "p.npz").read_bytes()}
    wrong = copy_bundle(shared_bundle, tmp_path / "wrong.edgesparse", files, {})
    with pytest.raises(BundleError, match=r"must hold windows of the bundle's channels and classes"):
        read_prototypes(wrong)
