"""The learning benchmark's own arithmetic: tasks, parts of the labels, disturbances and paired intervals."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.learning import behavior, long_range, made_tasks, store
from benchmarks.learning.data import take_labels
from benchmarks.learning.disturbances import DISTURBANCES, disturb
from benchmarks.learning.models import VARIANTS
from benchmarks.learning.statistics import paired_difference
from benchmarks.learning.store import ROOT, Job
from benchmarks.learning.tables import TABLES
from benchmarks.support.import_closure import import_closure, source_text
from edgesparse.training.budget import measure_compute, sparse_layers
from edgesparse.training.run_folder import load_run
from edgesparse_runtime.data.series_set import SeriesSet
from tests.support.synthetic import make_series


@pytest.mark.parametrize("task", list(made_tasks.TASKS))
def test_level_and_spread_do_not_tell_the_class(task: str) -> None:
    """A model may read both off the whole window, so a band would solve such a task."""
    data = made_tasks.make(task, 1024, 400, seed=0)
    assert data.labels is not None
    classes = np.unique(data.labels)
    for read in (np.mean, np.std):
        figures = np.array([read(x, axis=1) for x in data.series])
        means = [figures[data.labels == label].mean(0) for label in classes]
        assert (np.abs(means[0] - means[1]) < 0.35 * figures.std(0) + 1e-6).all()


@pytest.mark.parametrize("task", list(made_tasks.TASKS))
def test_a_windows_mean_is_that_of_its_noise(task: str) -> None:
    """Bursts of a part of a cycle told the band their pitches by it: 0.66 on `match`."""
    data = made_tasks.make(task, 1024, 400, seed=0)
    means = np.array([x[0].mean() for x in data.series])
    assert means.std() < 1.15 * 0.1 / np.sqrt(1024)


def test_lessons_of_recall_ask_for_a_pitch_and_for_a_sign() -> None:
    """Read back from the series: the burst's swing, and which of the two pitches a burst has."""

    def pitch(burst: made_tasks.Signal) -> int:
        power = np.abs(np.fft.rfft(burst))
        return int(power[list(made_tasks.CYCLES)].argmax())

    for lesson, steps in (("recall-pitch", 256), ("recall-short", 256), ("recall", 1024)):
        data = made_tasks.make(lesson, steps, 50, seed=0)
        assert data.labels is not None
        for x, label in zip(data.series, data.labels, strict=True):
            cells = x.reshape(3, -1, made_tasks.BURST)
            swings = cells[1] @ made_tasks.SWING / made_tasks.BURST
            bursts = np.flatnonzero(np.abs(swings) > 0.5)
            (query,) = np.flatnonzero(cells[2].mean(-1) > 0.5)
            asked = [b for b in bursts if pitch(cells[0, b]) == pitch(cells[0, query])]
            assert len(bursts) == 2 and abs(swings[bursts].sum()) < 0.2 and query == cells.shape[1] - 2
            if lesson == "recall-pitch":
                assert len(asked) == (2 if label == "plus" else 0)
            else:
                assert len(asked) == 1 and (swings[asked[0]] > 0) == (label == "plus")


def test_the_lesson_of_match_asks_for_one_pitch() -> None:
    data = made_tasks.make("match-pitch", 256, 50, seed=0)
    assert data.labels is not None
    for x, label in zip(data.series, data.labels, strict=True):
        cells = x.reshape(2, -1, made_tasks.BURST)
        power = np.abs(np.fft.rfft(cells[0, cells[1].mean(-1) > 0.5]))[:, list(made_tasks.CYCLES)]
        assert power.argmax(-1).tolist() == [int(label == "same")] * 2


@pytest.mark.parametrize("task", list(made_tasks.TASKS))
def test_tasks_repeat_and_differ_by_seed(task: str) -> None:
    first, again, other = (made_tasks.make(task, 1024, 6, seed=seed) for seed in (0, 0, 1))
    assert all(np.array_equal(a, b) for a, b in zip(first.series, again.series, strict=True))
    assert not np.array_equal(first.series[0], other.series[0])


def test_a_longer_length_goes_on_from_the_shorter_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    short = tuple(replace(stage, series=64) for stage in long_range.stages_of("product"))
    monkeypatch.setattr(long_range, "stages_of", lambda task: short)
    started = []
    real = long_range.train

    def train(data: SeriesSet, *given: Any, initial: Any, **more: Any) -> Any:
        started.append((data.series[0].shape[1], initial is not None))
        return real(data, *given, initial=initial, **more)

    monkeypatch.setattr(long_range, "train", train)
    at_1024 = long_range.fit_long("product-1024", "sparse", 0, tmp_path)
    at_4096 = long_range.fit_long("product-4096", "sparse", 0, tmp_path)
    assert started == [(256, False), (1024, True), (4096, True)]
    assert len(at_4096["right"]) == long_range.TEST_SERIES and at_4096["seconds"] > at_1024["seconds"]


def test_a_band_stays_one_with_a_router_that_is_sure_of_a_distant_block(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Of the router's mass any share, however small, would take that block in."""
    short = tuple(replace(stage, series=64) for stage in long_range.stages_of("product"))
    monkeypatch.setattr(long_range, "stages_of", lambda task: short)
    long_range.fit_long("product-1024", "band", 0, tmp_path)
    model = load_run(tmp_path / "product-1-band-0").model
    for layer in sparse_layers(model):
        assert layer.router is not None
        layer.router.key_weight.data *= 1000.0
    windows = torch.tensor(np.stack(made_tasks.make("product", 1024, 4, seed=0).series))
    blocks, window = 13, model.config.window
    band = (2 * window + 1) * blocks - window * (window + 1)
    assert measure_compute(model, [windows]).density == pytest.approx(band / blocks**2)


def test_smaller_parts_lie_within_larger_ones_and_keep_classes() -> None:
    data = make_series(40)
    quarter, half = (take_labels(data, share, 7) for share in ("25%", "50%"))
    assert (len(quarter), len(half), len(take_labels(data, "10", 7))) == (10, 20, 10)
    kept = {x.tobytes() for x in half.series}
    assert all(x.tobytes() in kept for x in quarter.series)
    assert set(take_labels(data, "1%", 7).labels) == {"fast", "slow"}  # type: ignore[arg-type]


@pytest.mark.parametrize("name", list(DISTURBANCES))
def test_stronger_disturbance_changes_more(name: str) -> None:
    # One period: a faster wave would be out of step, and as far off as can be, at the first strength.
    wave = np.sin(np.linspace(0, 6, 400, dtype=np.float32))
    data = SeriesSet([np.stack([wave, -wave])] * 4, ("a", "b"))
    distances = []
    for strength in DISTURBANCES[name][1]:
        changed = disturb(data, name, strength)
        assert [x.shape for x in changed.series] == [x.shape for x in data.series]
        gaps = [np.nan_to_num(a - b, nan=1.0) for a, b in zip(changed.series, data.series, strict=True)]
        distances.append(sum(float(np.abs(g).sum()) for g in gaps))
    assert 0 < distances[0] < distances[1] < distances[2]


def test_paired_interval_covers_the_true_difference() -> None:
    """Two models 3 points apart on the same series: most of 40 intervals hold the 3 points."""
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(40):
        hard = rng.random((1, 200))
        ours, rival = ((hard * 0.8 + rng.random((3, 200)) * 0.2 < p).astype(float) for p in (0.83, 0.80))
        # The expected accuracies, from the distribution of 0.8 u + 0.2 v.
        expected = (0.83 - 0.1) / 0.8 - (0.80 - 0.1) / 0.8
        found = paired_difference([ours], [rival])
        covered += found.low <= expected <= found.high
    assert covered >= 34


def test_paired_difference_uses_the_seeds_that_both_have() -> None:
    right = np.ones((3, 10))
    assert paired_difference([right], [np.zeros((2, 10))]).value == 1.0


@pytest.mark.slow
def test_results_of_other_code_are_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "FOLDER", tmp_path)
    # Also where the repository holds a result of this very run.
    monkeypatch.setattr(store, "COMMITTED", tmp_path / "none")
    short = tuple(replace(stage, series=64) for stage in long_range.stages_of("product"))
    monkeypatch.setattr(long_range, "stages_of", lambda task: short)
    job = Job("product-1024", "sparse")
    record = job.run()
    assert len(record["right"]) == record["n"] == 500
    assert (job.stored() or {})["right"] == record["right"]
    monkeypatch.setattr(store, "code_version", lambda job: "other")
    assert job.stored() is None


def test_every_variant_is_a_valid_configuration() -> None:
    from edgesparse.config import RunConfig, resolve_config

    for variant in VARIANTS.values():
        resolve_config(RunConfig(), None, variant.overrides)


def test_code_version_follows_what_training_imports(tmp_path: Path) -> None:
    package = tmp_path / "thing"
    package.mkdir()
    (tmp_path / "use.py").write_text("import os\nfrom thing.loop import go\n")
    (package / "__init__.py").write_text("from thing.other import x\n")
    (package / "loop.py").write_text("try:\n    from thing import layer\nexcept ImportError:\n    pass\n")
    (package / "layer.py").write_text("import thing.deep\n\ndef f():\n    import thing.lazy\n")
    for name in ("deep", "lazy", "other"):
        (package / f"{name}.py").write_text("x = 1\n")
    found = import_closure(tmp_path / "use.py", package)
    assert {p.stem for p in found} == {"loop", "layer", "deep"}
    every = import_closure(tmp_path / "use.py", package, when_called=True)
    assert {p.stem for p in every} == {"loop", "layer", "deep", "lazy"}


def test_comments_do_not_cost_results_and_code_does(tmp_path: Path) -> None:
    file = tmp_path / "a.py"
    texts = []
    for text in ('"""A."""\nx = 1  # one\n', '"""B."""\n\nx = 1\n', '"""B."""\nx = 2\n'):
        file.write_text(text)
        texts.append(source_text(file))
    assert texts[0] == texts[1] != texts[2]


def test_training_path_is_found() -> None:
    names = {p.stem for p in import_closure(ROOT / "benchmarks/learning/models.py", ROOT / "edgesparse")}
    assert {"loop", "transformer", "layer", "router", "config", "selection", "filter_bank"} <= names
    # Reached by a call only.
    assert not names & {"__init__", "accelerate_processes"}


def test_committed_results_are_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "FOLDER", tmp_path / "runs")
    monkeypatch.setattr(store, "COMMITTED", tmp_path / "committed")
    store.committed.cache_clear()
    job = Job("product-1024", "stem with ridge", "20", overrides=("training.epochs=1",))
    record = {"job": asdict(job), "code": store.code_version(job), "machine": {"cpu": "x"}, "n": 3}
    assert job.stored() is None
    store.committed.cache_clear()
    store.commit("table", {"cpu": "x"}, [record])
    assert job.stored() == json.loads(json.dumps(record))
    monkeypatch.setattr(store, "code_version", lambda job: "other")
    assert job.stored() is None
    store.committed.cache_clear()


def test_only_valid_results_are_committed_as_this_codes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "COMMITTED", tmp_path)
    monkeypatch.setattr(store, "behavior", lambda **kinds: "same")
    job = Job("ACSF1", "sparse")
    record = {"job": asdict(job), "code": "old", "benchmark": store.benchmark_version(job)}
    record |= {"behavior": "same", "series": 100, "channels": 1}
    path = store.commit("table", {}, [record, record | {"behavior": "other"}])
    codes = [entry["code"] for entry in json.loads(path.read_text())["records"]]
    assert codes == [store.code_version(job), "old"]


def test_top_k_is_a_row_of_the_ablation() -> None:
    found = {job: {"right": "1" if job.overrides else "0"} for job in TABLES["ablation"].jobs(1)}
    header, _, first = TABLES["ablation"].render(found).splitlines()[:3]
    cells = dict(zip(header.split(" | "), first.split(" | "), strict=True))
    assert (cells["top-k"], cells["sparse"]) == ("1.000 (1)", "0.000 (1)")


def test_two_processes_share_the_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "FOLDER", tmp_path)
    job, other = Job("ACSF1", "sparse"), Job("ACSF1", "dense")
    with job.claim() as first, job.claim() as again, other.claim() as apart:
        assert (first, again, apart) == (True, False, True)
    with job.claim() as afterwards:
        assert afterwards
    assert not list(tmp_path.glob("*.claim"))


def test_results_outlive_a_trainer_that_does_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, rival = Job("ACSF1", "sparse"), Job("ACSF1", "MiniRocket")
    monkeypatch.setattr(store, "code_version", lambda job: "new")
    monkeypatch.setattr(store, "benchmark_version", lambda job: "bench")
    monkeypatch.setattr(
        store,
        "behavior",
        lambda *, is_large, is_multichannel: f"large {is_large}, channels {is_multichannel}",
    )
    old = {"code": "old", "benchmark": "bench", "series": 100, "channels": 1}
    old["behavior"] = "large False, channels False"
    assert store.is_valid({"code": "new"}, ours)
    assert store.is_valid(old, ours)
    assert not store.is_valid(old | {"behavior": "other"}, ours)
    assert not store.is_valid(old | {"benchmark": "older"}, ours)
    # A result is held against what such data do: another size or several channels are other data.
    assert not store.is_valid(old | {"series": 500}, ours)
    assert not store.is_valid(old | {"channels": 2}, ours)
    assert store.is_valid(old | {"series": 500, "channels": 2, "behavior": "large True, channels True"}, ours)
    assert not store.is_valid({"code": "old"}, rival)
    # Results from before channels were counted.
    assert not store.is_valid({k: v for k, v in old.items() if k != "channels"}, ours)


def test_made_tasks_have_a_version_of_their_own() -> None:
    real, made = (store.code_version(Job(name, "sparse")) for name in ("ACSF1", "product-1024"))
    assert real != made


@pytest.mark.slow
def test_behavior_repeats_and_follows_the_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    hashes = []
    for overrides in ((), (), ("training.weight_decay=0.04",)):
        monkeypatch.setattr(behavior, "CASES", ((20, 1, 100, 120, overrides),))
        hashes.append(behavior.behavior.__wrapped__(is_large=False, is_multichannel=False))
    assert hashes[0] == hashes[1] != hashes[2]


@pytest.mark.slow
def test_behavior_of_one_channel_leaves_out_what_concerns_several(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = ("training.max_steps=2",)
    monkeypatch.setattr(behavior, "CASES", ((20, 1, 60, 60, settings), (20, 2, 60, 60, settings)))
    one = behavior.behavior.__wrapped__(is_large=False, is_multichannel=False)
    several = behavior.behavior.__wrapped__(is_large=False, is_multichannel=True)
    assert one != several
    monkeypatch.setattr(behavior, "CASES", ((20, 1, 60, 60, settings),))
    assert behavior.behavior.__wrapped__(is_large=False, is_multichannel=True) == one
