"""When the runner takes the dense twin, held against hand-made measurements."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from edgesparse_export.twin_bundle import add_twins
from edgesparse_runtime.bundle.manifest import manifest_schema
from edgesparse_runtime.bundle.read import Bundle, open_bundle
from edgesparse_runtime.bundle.write import rewrite_bundle
from edgesparse_runtime.data.series_set import SeriesSet
from edgesparse_runtime.dense_twin.density import known_density
from edgesparse_runtime.dense_twin.lookup import describe_machine, find_limits, hash_of
from edgesparse_runtime.dense_twin.switch import Switch
from edgesparse_runtime.errors import InputError
from edgesparse_runtime.evaluation.verify import check_scores, verify
from edgesparse_runtime.machine.progress import progress
from edgesparse_runtime.measure.breakeven import BreakevenJob, cells, measure_breakeven
from edgesparse_runtime.measure.partial_results import PartialResults
from edgesparse_runtime.session import Session
from tests.support.built_once import BuiltOnce


@pytest.fixture(scope="module")
def twins(built_once: BuiltOnce, shared_bundle: Bundle) -> Bundle:
    """The shared bundle with its dense twins; tests must not change it."""

    def build(folder: Path) -> None:
        shutil.copytree(shared_bundle.path, folder / "m.edgesparse")
        add_twins(open_bundle(folder / "m.edgesparse"), ["float32", "int8"])

    return open_bundle(built_once("twins", build) / "m.edgesparse")


@pytest.fixture
def bundle(tmp_path: Path, twins: Bundle) -> Bundle:
    """A copy that a test may change."""
    shutil.copytree(twins.path, tmp_path / "m.edgesparse")
    return open_bundle(tmp_path / "m.edgesparse")


def with_entry(bundle: Bundle, limits: Any, precision: str = "float32", **fields: Any) -> Bundle:
    """The bundle with a hand-made measurement of this machine at one thread."""
    engine = Session(bundle, precision=precision, threads=1, attention="sparse").engine
    entry = {
        **describe_machine(1, engine),
        "precision": precision,
        "model": hash_of(bundle.manifest, precision),
        "batch": 1,
        "measured": "2026-11-24T12:00:00Z",
        "dense_up_to": limits,
        "table": [],
        **fields,
    }
    return rewrite_bundle(bundle, {}, {"breakeven": [entry]})


def test_short_windows_run_dense_and_long_ones_sparse(bundle: Bundle, series: SeriesSet) -> None:
    windows = series.to_batch()[:4]
    bundle = with_entry(bundle, [{"density": None, "steps": 300}])
    jsonschema.validate(bundle.manifest, manifest_schema())
    session = Session(bundle, precision="float32", threads=1)
    sparse = Session(bundle, precision="float32", threads=1, attention="sparse")
    dense = Session(bundle, precision="float32", threads=1, attention="dense")
    for steps, expected, other in ((300, dense, sparse), (301, sparse, dense)):
        cut = np.ascontiguousarray(windows[:, :, :steps])
        np.testing.assert_array_equal(session.predict(cut), expected.predict(cut))
        # The two must differ, or this test could not tell them apart.
        assert (session.predict(cut) != other.predict(cut)).any()
        np.testing.assert_array_equal(session.predict(cut, may_switch=False), sparse.predict(cut))
    assert session.engine_at(300) == "onnxruntime, dense twin"
    assert session.engine_at(301) == session.engine == sparse.engine
    # What was attended to is the sparse model's to say at every length.
    for a, b in zip(session.selections(cut), sparse.selections(cut), strict=True):
        np.testing.assert_array_equal(a, b)
    # int8 was not measured.
    assert not Session(bundle, precision="int8", threads=1).takes_dense(100)


@pytest.mark.parametrize("field", ["cpu", "instruction_sets", "onnxruntime", "engine", "kernels"])
def test_a_bundle_from_another_machine_runs_sparse(bundle: Bundle, field: str) -> None:
    another = {"instruction_sets": ["another"], "kernels": "0" * 16}.get(field, "another")
    bundle = with_entry(bundle, [{"density": None, "steps": 9999}], **{field: another})
    session = Session(bundle, precision="float32", threads=1)
    assert not session.takes_dense(100)
    assert session.switch.reason == f"break-even was measured elsewhere ({field} differ)"


def test_other_threads_and_another_model_run_sparse(bundle: Bundle) -> None:
    limits = [{"density": None, "steps": 9999}]
    assert Session(with_entry(bundle, limits), precision="float32", threads=1).takes_dense(100)
    bundle = open_bundle(bundle.path)
    two = Session(bundle, precision="float32", threads=2)
    assert (two.takes_dense(100), "threads" in two.switch.reason) == (False, True)
    other = Session(with_entry(bundle, limits, model="0" * 64), precision="float32", threads=1)
    assert (other.takes_dense(100), "not measured" in other.switch.reason) == (False, True)
    twin = bundle.manifest["dense"]["float32"] | {"of": "0" * 64}
    bundle = with_entry(open_bundle(bundle.path), limits)
    stale = rewrite_bundle(bundle, {}, {"dense": {"float32": twin}})
    assert "has no dense twin" in Session(stale, precision="float32", threads=1).switch.reason
    with pytest.raises(InputError, match="has no dense float32 twin"):
        Session(stale, precision="float32", attention="dense")


@pytest.mark.parametrize(
    "limits", [None, 3, [7], [{"density": None, "steps": "all"}], [{"density": "x", "steps": 9}], [{}]]
)
def test_an_entry_that_is_not_valid_is_never_followed(bundle: Bundle, limits: Any) -> None:
    session = Session(with_entry(bundle, limits), precision="float32", threads=1)
    assert not session.takes_dense(1)


def test_knobs_switch_only_where_they_alone_say_the_density(bundle: Bundle) -> None:
    limits = [{"density": None, "steps": 100}, {"density": 0.25, "steps": 300}]
    bundle = with_entry(bundle, limits)

    def takes(**knobs: Any) -> bool:
        return Session(bundle, precision="float32", threads=1, **knobs).takes_dense(300)

    # 300 steps are 38 tokens or 5 blocks.
    assert known_density(bundle.manifest, {"top_p": np.ones(2), "max_blocks": np.array([2])}, 300) == 0.4
    assert takes(top_p=1.0, max_blocks=2)
    assert not takes(top_p=1.0, max_blocks=1)
    assert not takes(max_blocks=2)
    assert not takes(top_p=0.9, max_blocks=2)
    assert not takes()


def test_limits_end_where_dense_loses_or_decides_otherwise() -> None:
    def row(length: int, winner: str, agrees: bool = True, density: float | None = None) -> dict[str, Any]:
        return {"length": length, "density": density, "winner": winner, "agrees": agrees}

    table = [row(400, "dense"), row(100, "dense"), row(200, "even"), row(100, "dense", density=0.5)]
    assert find_limits(table) == [{"density": None, "steps": 100}, {"density": 0.5, "steps": 100}]
    assert find_limits([row(100, "dense", False), row(200, "dense")]) == [{"density": None, "steps": 0}]
    assert find_limits([row(100, "dense"), row(200, "dense")]) == [{"density": None, "steps": 200}]
    assert not Switch((), "").takes(1)


def test_verify_holds_the_sparse_model_and_the_twin(bundle: Bundle) -> None:
    body = Session(bundle, precision="float32", threads=1, engine="body", attention="sparse").engine
    bundle = with_entry(bundle, [{"density": None, "steps": 9999}])
    # The function body was measured too: the check of the two engines must not be answered by the twin.
    native = bundle.manifest["breakeven"][0]
    bundle = rewrite_bundle(bundle, {}, {"breakeven": [native, native | describe_machine(1, body)]})
    assert Session(bundle, precision="float32", threads=1, engine="body").takes_dense(600)
    checks = {check.boundary: check for check in verify(bundle, threads=1)}
    assert {"float32 scores", "float32 dense twin", "int8 dense twin"} <= set(checks)
    assert all(check.holds for check in checks.values())
    # A server rehearses with the session that it will use.
    session = Session(bundle, precision="float32", threads=1)
    assert session.takes_dense(600)
    assert check_scores(session).largest_difference == 0.0
    # Another model's twin is found.
    wrong = rewrite_bundle(bundle, {"model.dense.onnx": bundle.read("model.int8.dense.onnx")}, {})
    broken = [check.boundary for check in verify(wrong, threads=1) if not check.holds]
    assert broken == ["float32 dense twin"]


def test_the_table_holds_what_was_measured(bundle: Bundle, tmp_path: Path) -> None:
    request = BreakevenJob(
        str(bundle.path), "float32", threads=1, lengths=[200, 600], densities=[0.5], seconds=0.02
    )
    assert cells(bundle, request) == [(200, None), (200, 0.5), (600, None), (600, 0.5)]
    kept: list[dict[str, Any]] = []

    class Interrupted(Exception):
        pass

    rows = PartialResults(bundle.path, {"cpu": "x"}, request)

    def keep(row: dict[str, Any]) -> None:
        rows.add(row)
        kept.append(row)
        if len(kept) == 2:
            raise Interrupted

    with progress("x", 4, quiet=True) as shown, pytest.raises(Interrupted):
        measure_breakeven(request, shown, on_row=keep)
    # Nothing measured is lost, and nothing of another machine is taken up.
    assert PartialResults(bundle.path, {"cpu": "y"}, request).done == {}
    done = PartialResults(bundle.path, {"cpu": "x"}, request).done
    assert list(done) == [(200, None), (200, 0.5)]
    new: list[dict[str, Any]] = []
    with progress("x", 4, quiet=True) as shown:
        entry = measure_breakeven(request, shown, done=done, on_row=new.append)
    assert [row["length"] for row in new] == [600, 600]
    assert entry["table"] == kept + new
    assert entry["dense_up_to"] == find_limits(entry["table"])
    for row in entry["table"]:
        assert 0 < row["low"] <= row["ratio"] <= row["high"]
        assert row["ratio"] == pytest.approx(row["sparse_ms"] / row["dense_ms"])
        assert row["density"] is None or row["kept"] == pytest.approx(row["density"], rel=0.25)
    jsonschema.validate(rewrite_bundle(bundle, {}, {"breakeven": [entry]}).manifest, manifest_schema())
    rows.clear()
    assert not rows.path.exists()


def test_a_twin_that_decides_otherwise_is_not_switched_to(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dense wins by decree; its answers are then those of a model that answers the other way round."""
    import edgesparse_runtime.measure.breakeven as module

    def ten_times(*_: Any) -> Any:
        return np.tile([[10.0], [1.0]], 20)

    request = BreakevenJob(str(bundle.path), "float32", threads=1, lengths=[200], densities=[])
    monkeypatch.setattr(module, "time_interleaved", ten_times)
    with progress("x", 1, quiet=True) as shown:
        entry = measure_breakeven(request, shown)
    assert entry["dense_up_to"] == [{"density": None, "steps": 200}]
    assert entry["table"][0]["agreement"]["n"] == module.COMPARED
    predict = Session.predict
    monkeypatch.setattr(
        Session,
        "predict",
        lambda self, *x, **k: predict(self, *x, **k)[:, :: -1 if not self.is_sparse else 1],
    )
    with progress("x", 1, quiet=True) as shown:
        entry = measure_breakeven(request, shown)
    assert (entry["table"][0]["winner"], entry["table"][0]["agrees"]) == ("dense", False)
    assert entry["dense_up_to"] == [{"density": None, "steps": 0}]
