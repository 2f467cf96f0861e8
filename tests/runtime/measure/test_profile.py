"""Profiles: the arithmetic on made-up figures, and the whole on a small model."""

from __future__ import annotations

import itertools
import json
import shutil
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import onnx
import pytest

from edgesparse_runtime.bundle.read import Bundle, open_bundle
from edgesparse_runtime.bundle.write import rewrite_bundle
from edgesparse_runtime.errors import BundleError, EdgeSparseError, InputError
from edgesparse_runtime.machine import memory_bounds
from edgesparse_runtime.measure import soak as soak_module
from edgesparse_runtime.measure.inputs import Inputs, fit_length
from edgesparse_runtime.measure.job import Job
from edgesparse_runtime.measure.modules import Module, doubt, match_events, name_modules
from edgesparse_runtime.measure.nodes import Node, module_of, read_nodes
from edgesparse_runtime.measure.paced_load import pace
from edgesparse_runtime.measure.report import svg
from edgesparse_runtime.measure.report.html import profile_page
from edgesparse_runtime.measure.report.output import write_result
from edgesparse_runtime.measure.results import ProfileResult
from edgesparse_runtime.measure.soak import slope_with_interval, soak
from edgesparse_runtime.measure.trace import chrome_trace
from edgesparse_runtime.measure.worker import run_job
from edgesparse_runtime.session import Session
from tests.runtime.explain.browser import AXE, CHROMIUM, open_page


@pytest.fixture(scope="module")
def result(shared_bundle: Bundle) -> ProfileResult:
    return run_job(
        Job(
            model=str(shared_bundle.path),
            precision="float32",
            seconds=0.2,
            threads=1,
            modules=True,
            rates=[50.0],
        )
    )


# Inputs


def test_every_call_gets_new_windows(shared_bundle: Bundle) -> None:
    inputs = Inputs(Session(shared_bundle), batch=2, length=700)
    seen = [inputs.next() for _ in range(20)]
    assert all(w.shape == (2, 2, 700) and w.dtype == np.float32 for w in seen)
    assert len({w.tobytes() for w in seen}) == 20
    assert not any(np.shares_memory(a, b) for a, b in itertools.pairwise(seen))


@pytest.mark.parametrize("length", [1, 9, 10, 11, 20, 21, 57])
def test_windows_of_another_length_are_cut_or_mirrored(length: int) -> None:
    windows = np.arange(10, dtype=np.float32)[None, None]
    fitted = fit_length(windows, length)[0, 0]
    period = [*range(10), *range(9, -1, -1)]
    assert fitted.tolist() == [period[i % 20] for i in range(length)]


def test_golden_recordings_are_cut_to_the_model_s_window(shared_bundle: Bundle, tmp_path: Path) -> None:
    """A deadline is kept or missed on what the model is given, and not on a recording of half a minute."""
    folder = shutil.copytree(shared_bundle.path, tmp_path / "pump.edgesparse")
    bundle = open_bundle(folder)
    assert Inputs(Session(bundle)).length == Inputs(Session(bundle)).window == 600
    cut = rewrite_bundle(bundle, {}, {"input": bundle.manifest["input"] | {"window": 100}})
    inputs = Inputs(Session(cut))
    assert (inputs.length, inputs.window) == (100, 100)
    assert inputs.next().shape == (1, 2, 100)
    assert Inputs(Session(cut), length=250).length == 250


# Reading ONNX without onnx


def test_nodes_are_read_as_onnx_reads_them(shared_bundle: Bundle) -> None:
    content = shared_bundle.read("model.onnx")
    expected = onnx.load_from_string(content).graph.node
    nodes = read_nodes(content)
    assert [(n.name, n.operator, list(n.inputs), list(n.outputs)) for n in nodes] == [
        (n.name, n.op_type, list(n.input), list(n.output)) for n in expected
    ]
    assert {"layers.0.attention.router", "layers.1.feed_forward.0", "bank"} <= {n.module for n in nodes}


@pytest.mark.parametrize("content", [b"\xff" * 20, b"\x3a\x7f", b"\x0b", b"\x3a\x02\x0a\x05"])
def test_bytes_that_are_no_onnx_file(content: bytes) -> None:
    with pytest.raises(BundleError, match="must be an ONNX file"):
        read_nodes(content)


def test_scopes_name_the_module() -> None:
    assert module_of("['', 'model', 'model.layers.0', 'linear']") == "layers.0"
    assert (
        module_of("['', 'scores', 'scores.model.layers.0.attention.sparse_core', 'x']")
        == "layers.0.attention"
    )
    assert module_of("['', 'scores', 'softmax']") == "(around the layers)"
    assert module_of("['', 'softmax']") == module_of("['', 'model', 'mean']") == "(around the layers)"
    assert module_of("") is None
    assert module_of("__import__('os').abort()") is None


@pytest.mark.parametrize(
    "scopes", ["{[]:1}", "[" * 5000, "['a'", "('a', 'b')", "['a', 1]", "['a\\', 'b']", "['a', " * 2000]
)
def test_scopes_that_are_no_list_of_names_name_nothing(scopes: str) -> None:
    assert module_of(scopes) is None


def test_fused_nodes_take_the_module_of_what_they_produce() -> None:
    original = [
        Node("mm", "MatMul", ("x",), ("a",), "layers.0"),
        Node("add", "Add", ("a",), ("b",), "layers.0"),
        Node("att", "SparseAttention", ("b",), ("c",), "layers.0.attention"),
    ]
    made = [
        Node("cast", "Cast", ("x",), ("new",), None),
        Node("gemm", "Gemm", ("new",), ("b",), None),
        Node("inlined", "Gather", ("b",), ("inner",), None),
        Node("last", "Mul", ("inner",), ("c",), None),
        Node("loose", "Shape", ("c",), ("nobody",), None),
    ]
    operator = "layers.0.attention.operator"
    assert name_modules(original, made) == ["layers.0", "layers.0", operator, operator, operator]
    # A quantized file has lost the scopes; names and tensors are those of the float32 file.
    int8 = [
        Node("mm", "Linear", ("x", "w"), ("b",), None),
        Node("", "SparseAttention", ("b",), ("c",), None),
    ]
    assert name_modules(int8, int8, original) == ["layers.0", operator]
    assert name_modules([], int8) == ["(unnamed)", "(unnamed)"]


def test_nodes_without_names_are_told_by_their_place() -> None:
    made = [Node("", "Add", ("x",), ("a",), None), Node("", "Add", ("a",), ("b",), None)]
    events = [{"name": f"Add_{i}_kernel_time", "args": {"op_name": "Add"}} for i in (7, 3)]
    assert match_events(events, made, ["first", "second"]) == ["first", "second"]
    assert match_events(events[:1], made, ["first", "second"]) == ["(unnamed)"]


# Pace and soak, on a session that takes a known time


class Sleeper:
    """Stands in for a session."""

    bundle = None

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def predict(self, window: object, batch_size: int = 1) -> None:
        time.sleep(self.seconds)


INPUTS = SimpleNamespace(next=lambda: np.zeros((1, 1, 64), np.float32), batch=1, length=64)


def test_a_queue_that_grows_shows_in_the_answers() -> None:
    """20 ms of work every 10 ms: the tenth answer comes at least 90 ms late, whatever each call took."""
    paced = pace(Sleeper(0.02), INPUTS, rate=100, deadline=None, seconds=0.1)  # type: ignore[arg-type]
    assert paced.calls == 10
    assert paced.missed == 10
    assert paced.max > 100
    assert paced.served < 60


def test_a_light_load_misses_nothing() -> None:
    paced = pace(Sleeper(0.0), INPUTS, rate=20, deadline=45, seconds=0.5)  # type: ignore[arg-type]
    assert paced.missed == 0
    assert paced.busy < 0.2


@pytest.mark.parametrize("leak", [0.0, 0.01])
def test_a_leak_is_found_and_flat_memory_is_flat(monkeypatch: pytest.MonkeyPatch, leak: float) -> None:
    calls = iter(range(10_000))
    random = np.random.default_rng(0)
    monkeypatch.setattr(
        soak_module, "resident_memory", lambda: 100 + leak * next(calls) + random.normal(0, 0.05)
    )
    result = soak(Sleeper(0.0), INPUTS, runs=800)  # type: ignore[arg-type]
    # 400 samples of a hundredth of a MB each.
    assert result.slope_mb == pytest.approx(400 * leak, abs=0.1)
    assert result.slope_low <= result.slope_mb <= result.slope_high
    assert result.runs == 800


def test_the_interval_of_a_slope_covers_it() -> None:
    x = np.linspace(0, 1, 400)
    covered = 0
    for seed in range(40):
        noise = np.random.default_rng(seed).standard_normal(400)
        _, low, high = slope_with_interval(x, 2 * x + noise)
        covered += low <= 2 <= high
    assert 32 <= covered <= 40


def test_a_soak_needs_one_bound() -> None:
    with pytest.raises(InputError, match="needs exactly one bound"):
        soak(Sleeper(0), INPUTS)  # type: ignore[arg-type]


# The whole


def test_the_table_names_modules_and_splits_attention(result: ProfileResult) -> None:
    assert result.modules is not None
    rows = {m.name: m for m in result.modules}
    assert {"layers.0.attention.router", "layers.0.attention.operator", "bank", "embed"} <= set(rows)
    assert sum(m.share for m in result.modules) == pytest.approx(1.0)
    assert 0 < (rows["layers.1.attention.operator"].density or 0) < 1
    assert rows["bank"].density is None
    assert "(unnamed)" not in rows or rows["(unnamed)"].share < 0.05


def test_figures_are_in_order(result: ProfileResult) -> None:
    p = result.profile
    assert 0 < p.p50 <= p.p90 <= p.p95 <= p.p99 <= p.max
    assert p.memory_peak >= p.memory_before > 10
    assert p.inputs == "the bundle's golden windows"
    assert len(result.latencies) == p.calls


def test_a_result_travels_as_json(result: ProfileResult) -> None:
    """What the measuring process prints is what the caller gets, and the keys are the published ones."""
    found = json.loads(json.dumps(result.to_dict()))
    assert ProfileResult.from_dict(found) == result
    assert set(found["conditions"]) >= {"quota_throttled", "heat_throttled", "stolen"}
    assert {"profile", "latencies", "conditions", "environment", "sweep", "modules", "paced"} <= set(found)
    assert "missed_share" in found["paced"][0] and "soak" not in found


def test_errors_of_the_measuring_process_come_back(tmp_path: Path) -> None:
    with pytest.raises(EdgeSparseError, match="no such file or folder") as caught:
        run_job(Job(model=str(tmp_path / "none.onnx")))
    assert caught.value.exit_code == 2
    for bad, words in (
        ({"batch": 0}, "`--batch` must be at least 1; got 0"),
        ({"threads": -3}, "`--threads` must be at least 1; got -3"),
        ({"sweep_length": [8, 0]}, "`--sweep-length` must be at least 1; got 0"),
        ({"soak_runs": 0}, "`--soak-runs` must be at least 1; got 0"),
        ({"seconds": 0.0}, "`--seconds` must be above 0 and finite; got 0"),
        ({"rates": [5.0, float("nan")]}, "`--rate` must be above 0 and finite; got nan"),
        ({"soak_minutes": float("inf")}, "`--soak` must be above 0 and finite; got inf"),
        ({"deadline": 5.0}, "`--deadline` is for paced calls"),
    ):
        with pytest.raises(InputError, match=words):
            Job(model="x", **bad)  # type: ignore[arg-type]


def test_inputs_beyond_memory_are_refused_before_they_are_made(
    shared_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = Session(shared_bundle, precision="float32")
    for wanted in ({"batch": 10**8}, {"length": 10**8}):
        with pytest.raises(InputError, match="must fit into memory; that takes at least"):
            Inputs(session, **wanted)
    monkeypatch.setattr(memory_bounds, "free_memory", lambda: None)
    memory_bounds.check_memory(batch=10**8, channels=1, length=10**8, kept=1, scores=0)


def test_memory_that_is_free_is_the_machine_s_or_the_container_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "meminfo").write_text("MemTotal: 9 kB\nMemAvailable:       4 kB\n")
    monkeypatch.setattr(memory_bounds, "memory_limit", lambda: None)
    assert memory_bounds.free_memory(tmp_path / "meminfo") == 4096
    monkeypatch.setattr(memory_bounds, "memory_limit", lambda: 1000)
    assert memory_bounds.free_memory(tmp_path / "meminfo") == 1000
    assert memory_bounds.free_memory(tmp_path / "none") is None


def test_a_table_that_contradicts_the_latency_says_so() -> None:
    rows = [Module("a", 2.1, 0.84, {}), Module("b", 0.4, 0.16, {})]
    assert "add up to 2.50 ms, but a call took 0.97 ms" in doubt(rows, 0.97)
    assert doubt(rows, 2.3) == ""


def test_page_is_whole_and_needs_nothing_else(tmp_path: Path, result: ProfileResult) -> None:
    soaked = soak(Sleeper(0.0), INPUTS, runs=50)  # type: ignore[arg-type]
    points = [replace(result.profile, length=n) for n in (100, 200, 400)]
    full = replace(result, soak=soaked, sweep={"length": points})
    for form in ("x.html", "x.json", "x.trace.json"):
        write_result(tmp_path / form, full)
    page = (tmp_path / "x.html").read_text()
    for word in (
        "How long calls took",
        "layers.0.attention.operator",
        "By steps per window",
        "50 runs",
        "machine",
    ):
        assert word in page
    # Nothing is fetched, nothing runs, and every picture is well formed.
    assert "http" not in page and "<script" not in page and "url(" not in page
    drawings = page.split("<svg")[1:]
    # Each chart is drawn for a page and for a phone.
    assert len(drawings) == 2 * 5
    for drawing in drawings:
        ElementTree.fromstring("<svg" + drawing.split("</svg>")[0] + "</svg>")
    assert json.loads((tmp_path / "x.json").read_text())["schema"] == "edgesparse.profile/1"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x.html", "x.json", "x.trace.json"]
    with pytest.raises(InputError, match=r"must end in"):
        write_result(tmp_path / "x.pdf", full)


@pytest.mark.skipif(CHROMIUM is None, reason="needs the Debian package chromium")
def test_page_is_whole_in_a_browser(tmp_path: Path, result: ProfileResult) -> None:
    points = [replace(result.profile, length=n) for n in (100, 200, 400)]
    (tmp_path / "page.html").write_text(profile_page(replace(result, sweep={"length": points})))
    # axe-core is tried where `make prove-explain` names it.
    found = open_page(tmp_path / "page.html", 390, tmp_path, None if AXE is None else Path(AXE))
    assert found["wide"] <= found["width"] and found["smallest"] >= 14
    assert found["requests"] == [] and found["console"] == [] and found["violations"] == []


def test_names_are_escaped_in_the_page(result: ProfileResult) -> None:
    name = "<script>alert(1)</script>\ud800\u202e\x1b[2J"
    evil = replace(
        result,
        profile=replace(result.profile, model=f"x{name}", engine=name, inputs=name),
        modules=[Module(name, 1.0, 1.0, {})],
        on=name,
    )
    page = profile_page(evil)
    assert "<script" not in page
    # A file's name may be no text at all; such a page could not be written.
    page.encode("utf-8")
    assert "\u202e" not in page and "\x1b" not in page


def test_the_verdict_on_the_deadline_comes_first(result: ProfileResult) -> None:
    (paced,) = result.paced
    held = replace(paced, missed=0, calls=300, deadline=20.0, rate=1.0)
    broken = replace(held, missed=3)
    page = profile_page(replace(result, paced=[broken]))
    assert page.index("Deadline missed: 3 of 300 answers later than 20 ms") < page.index("half of the calls")
    assert held.verdict == (
        "Deadline met: all 300 answers within 20 ms at 1 window per second (from this many calls, up to 1.3% "
        "may be late)."
    )


def test_the_page_says_when_it_shows_a_sample(result: ProfileResult) -> None:
    assert "The charts show every" not in profile_page(result)
    many = replace(result, profile=replace(result.profile, calls=10 * len(result.latencies)))
    assert "The charts show every 10th call" in profile_page(many)


def test_trace_puts_nodes_below_modules_below_calls(result: ProfileResult) -> None:
    assert result.trace is not None
    trace = chrome_trace(result.trace.events, {})
    bars = [e for e in trace["traceEvents"] if e["ph"] == "X"]
    calls, modules, nodes = ([e for e in bars if e["tid"] == tid] for tid in (1, 2, 3))
    assert [c["name"] for c in calls] == ["call 18", "call 19", "call 20"]
    assert len(nodes) > len(modules) > len(calls)
    assert sum(m["args"]["nodes"] for m in modules) == len(nodes)
    for node in nodes:
        assert any(c["ts"] <= node["ts"] <= c["ts"] + c["dur"] for c in calls)


def test_plots_take_what_comes() -> None:
    for values in ([1.0], [2.0, 2.0], [0.001, 5000.0]):
        ElementTree.fromstring(svg.histogram(values, {"p50": values[0]}, x_label="x").split("<p")[0])
        points = [(float(i + 1), v) for i, v in enumerate(values)]
        for log in (False, True):
            drawn = svg.curves({"a": points}, x_label="x", y_label="y", logarithmic=log)
            ElementTree.fromstring(drawn)
            assert "nan" not in drawn
