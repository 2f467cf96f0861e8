"""Unknown windows from training to every answer: the graph, `run`, a stream, a server's model, `evaluate`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from edgesparse.training.run_folder import Run, load_run
from edgesparse_export.quantize.int8 import linear_nodes
from edgesparse_runtime.bundle.read import Bundle
from edgesparse_runtime.cli.app import run as command
from edgesparse_runtime.data.readers import write_csv
from edgesparse_runtime.errors import InputError
from edgesparse_runtime.evaluation.unknown import auroc, evaluate_unknown
from edgesparse_runtime.serving.addresses import Address
from edgesparse_runtime.serving.served_model import load
from edgesparse_runtime.serving.settings import Settings
from edgesparse_runtime.session import Session
from edgesparse_runtime.stream.stream import Stream, StreamOptions
from tests.export.test_small_model import small_bundle as small_bundle
from tests.support.synthetic import make_series


def far_windows(good: np.ndarray) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "zeros": np.zeros_like(good),
        "missing": np.full_like(good, np.nan),
        "noise": 100 * rng.standard_normal(good.shape).astype(np.float32),
        "rail": np.full_like(good, 1e6),
    }


def test_the_graph_tells_far_windows_in_plain_onnxruntime(small_bundle: Bundle) -> None:
    model = onnxruntime.InferenceSession(small_bundle.read("model.onnx"))
    good = make_series(12, steps=300, seed=9).to_batch()
    assert "unknown" in [output.name for output in model.get_outputs()]
    (known,) = model.run(["unknown"], {"window": good})
    assert known.shape == (12,) and (known < 1).mean() >= 0.5
    for name, windows in far_windows(good).items():
        if name != "missing":
            (found,) = model.run(["unknown"], {"window": windows})
            assert found.min() > 1, name


def test_a_threshold_of_the_manifest_is_what_counts(small_bundle: Bundle) -> None:
    session = Session(small_bundle)
    good = make_series(12, steps=300, seed=9)
    scores, before = session.predict_with_unknown(good)
    assert before is not None and np.array_equal(scores, session.predict(good))
    assert small_bundle.manifest["unknown"]["refused"] == 0.05
    session.unknown_threshold = 2.0
    after = session.predict_with_unknown(good)[1]
    assert after is not None and np.allclose(after, before / 2)


def test_bundles_without_the_score_answer_as_before(shared_bundle: Bundle) -> None:
    session = Session(shared_bundle)
    scores, unknown = session.predict_with_unknown(make_series(4))
    assert unknown is None and session.unknown_threshold is None
    assert evaluate_unknown(session, make_series(4)) is None and scores.shape == (4, 2)


def test_int8_leaves_the_distances_alone(small_bundle: Bundle) -> None:
    assert linear_nodes(onnx.load_from_string(small_bundle.read("model.onnx"))) == []


def test_run_and_a_stream_answer_unknown(
    small_bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = make_series(6, steps=300, seed=9)
    windows = list(data.series)
    windows[2] = 50 * np.random.default_rng(0).standard_normal((2, 300)).astype(np.float32)
    write_csv(tmp_path / "a.csv", data.with_series(windows))
    command(["run", str(small_bundle.path), str(tmp_path / "a.csv"), "--json"])
    printed = capsys.readouterr()
    rows = json.loads(printed.out)["predictions"]
    assert rows[2]["unknown"] is True and rows[2]["unknown_score"] > 1
    assert sum(row["unknown"] for row in rows) < 6
    assert "of 6 windows are unlike all training windows" in printed.err
    stream = Stream(Session(small_bundle), StreamOptions(window=300, stride=300))
    from edgesparse_runtime.stream.parse import SampleParser

    parser = SampleParser(stream.session, stream.counts)
    found = [
        score
        for values in np.concatenate([windows[0], windows[2]], axis=1).T
        for score in stream.push(parser.to_sample(values))
    ]
    assert len(found) == 2 and found[1].unknown is not None and found[1].unknown > 1
    assert stream.counts.to_dict()["unknown"] == sum((s.unknown or 0) > 1 for s in found)


def test_a_served_model_answers_unknown(small_bundle: Bundle) -> None:
    model = load(Address("small", "1", small_bundle.path), Settings())
    windows = make_series(3, steps=300, seed=9).to_batch()
    windows[1] = 1e6
    outputs = model.outputs(model.scores(windows))
    assert outputs["scores"].shape == (3, 2) and outputs["unknown"].dtype == np.bool_
    assert bool(outputs["unknown"][1])
    assert np.allclose(outputs["scores"], model.session.predict(windows))
    assert model.output_names("infer") == ("scores", "unknown")
    named = {output["name"]: output for output in model.metadata(["1"])["outputs"]}
    assert named["unknown"] == {"name": "unknown", "datatype": "BOOL", "shape": [-1]}


def test_evaluate_says_how_well_unknown_windows_are_told(
    small_bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_csv(tmp_path / "a.csv", make_series(12, steps=300, seed=9))
    write_csv(
        tmp_path / "b.csv",
        make_series(6, steps=300, seed=3).with_series(
            [x * np.linspace(0, 9, 300, dtype=np.float32) for x in make_series(6, steps=300, seed=3).series]
        ),
    )
    given = ["--unknown", str(tmp_path / "b.csv")]
    assert command(["evaluate", str(small_bundle.path), str(tmp_path / "a.csv"), *given, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["unknown"]
    assert set(told["kinds"]) == {"zeros", "noise x 100", "rail", "sine", str(tmp_path / "b.csv")}
    assert all(kind["auroc"] > 0.95 for kind in told["kinds"].values()) and told["n"] == 12


def test_auroc_counts_ties_half() -> None:
    assert auroc(np.array([1.0, 2.0]), np.array([1.0, 0.0])) == 0.875
    assert auroc(np.array([1.0]), np.array([1.0])) == 0.5


def test_a_run_keeps_its_score(small_bundle: Bundle) -> None:
    run: Run = load_run(small_bundle.path.parent / "run")
    assert run.unknown is not None and run.report["unknown"]["windows"] == 24
    (run.path / "unknown.safetensors").rename(run.path / "kept")
    try:
        assert load_run(run.path).unknown is None
        (run.path / "unknown.safetensors").write_bytes(b"no tensors")
        with pytest.raises(InputError, match="Train again"):
            load_run(run.path)
    finally:
        (run.path / "kept").replace(run.path / "unknown.safetensors")
