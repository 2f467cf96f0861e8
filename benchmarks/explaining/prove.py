"""`make prove-explain`: what a decision rests on: PASS or FAIL, name, figure, target.

Exits 1 when one fails; writes the same as JSON. Models are trained on the spot. QUICK=1 plants one kind of
truth and takes two real sets. captum is optional: without it the comparison with it fails.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.explaining.deciding import prove_decision_pages, prove_poc
from benchmarks.explaining.judges import HAS_CAPTUM, average_precision, ours, rivals
from benchmarks.explaining.models import SMALL, SPARSE, fit
from benchmarks.explaining.planted import KINDS, plant
from benchmarks.learning.data import MissingPackage, load
from benchmarks.proofs.evidence import Claim, Evidence
from benchmarks.proofs.lines import Line, chosen_parts, finish, line, machine_now
from benchmarks.support.settings import QUICK, SCRATCH, report_path
from edgesparse.training.run_folder import Run
from edgesparse_export.run_bundle import golden_windows, onnx_bytes
from edgesparse_runtime.data.series_set import SeriesSet
from edgesparse_runtime.explain.influence import BUDGET, Decision, measure_influence
from edgesparse_runtime.explain.page.whole_set import set_page
from edgesparse_runtime.explain.routing import Recorder
from edgesparse_runtime.explain.trust import rank_correlation
from edgesparse_runtime.explain.whole_set import SetExplanation, explain_set
from edgesparse_runtime.explain.window import Explainer
from edgesparse_runtime.session import Session

TRAINING, JUDGED = 200, 12
PATCHES = {"shape": 1, "pitch": 2, "texture": 1}
MODELS = {"small": SMALL, "sparse": SPARSE}
REAL = ("ACSF1", "OSULeaf", "Computers", "FreezerSmallTrain", "CinCECGTorso", "PLAID", "FreezerRegularTrain")
REAL_WINDOWS = 24
LONG_STEPS = 1_460
LEAST_PRECISION = 0.8
MOST_COST = 0.05
# Rank correlation of two maps that are not the same map.
MOST_ALIKE = 0.7
# Calls that are timed, each of a pair beside the other.
CALLS = 60 if QUICK else 300
TESTS = "tests/runtime/explain/"


def prove_planted(facts: dict[str, Any]) -> list[Line]:
    """Planted truth: our maps and captum's on the same models and windows."""
    rows: dict[str, dict[str, list[float]]] = {}
    for kind in KINDS[:1] if QUICK else KINDS:
        for name, overrides in MODELS.items():
            for method, (steps, channels) in _judge(kind, overrides).items():
                row = rows.setdefault(method, {"steps": [], "channels": []})
                row["steps"].append(steps)
                row["channels"].append(channels)
            print(f"      {kind}, {name}: {rows['ours']['steps'][-1]:.3f}", file=sys.stderr, flush=True)
    facts["planted"] = rows
    means = {method: {k: float(np.mean(v)) for k, v in row.items()} for method, row in rows.items()}
    lines = []
    for what in ("steps", "channels"):
        found = means["ours"][what]
        target = f">= {LEAST_PRECISION}"
        least = min(rows["ours"][what])
        note = f"(lowest model {least:.3f})"
        lines.append(
            line(f"planted {what}: AUC-PR of influence", found >= LEAST_PRECISION, found, target, note)
        )
        for method in ("integrated gradients", "feature ablation"):
            name = f"planted {what}: influence against captum's {method}"
            if not HAS_CAPTUM:
                lines.append(line(name, False, "captum is not installed", "at least as good"))
                continue
            other = means[method][what]
            lines.append(line(name, found >= other, f"{found:.3f} against {other:.3f}", "at least as good"))
    return lines


def _judge(kind: str, overrides: tuple[str, ...]) -> dict[str, tuple[float, float]]:
    """By method, mean AUC-PR over steps and over channels, of a rival's best form."""
    training = plant(kind, TRAINING, patches=PATCHES[kind], seed=0).data
    test = plant(kind, JUDGED, patches=PATCHES[kind], seed=1)
    found: dict[str, dict[str, list[tuple[float, float]]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        run, session = fit(training, overrides, Path(folder))
        for window, truth in zip(test.data.series, test.truth, strict=True):
            target, steps, channels = ours(session, window)
            maps = {"ours": {"": (steps, channels)}}
            maps |= rivals(run, window, target) if HAS_CAPTUM else {}
            for method, forms in maps.items():
                for form, (a, b) in forms.items():
                    pair = average_precision(a, truth.any(axis=0)), average_precision(b, truth.any(axis=1))
                    found.setdefault(method, {}).setdefault(form, []).append(pair)
    best = {}
    for method, by_form in found.items():
        means = np.array([np.mean(pairs, axis=0) for pairs in by_form.values()])
        best[method] = (float(means[:, 0].max()), float(means[:, 1].max()))
    return best


def prove_real(facts: dict[str, Any]) -> list[Line]:
    """Real sets: above random with the interval above zero, else the page says so."""
    lines, above, said = [], 0, 0
    for name in REAL[:2] if QUICK else REAL:
        try:
            training, test = load(name)
        except MissingPackage as error:
            lines.append(line(f"real set {name}", None, str(error)))
            continue
        with tempfile.TemporaryDirectory() as folder:
            _, session = fit(training, SMALL, Path(folder))
            found = explain_set(Explainer(session), test, most=REAL_WINDOWS)
        said += _is_said(found)
        above += found.holds
        facts.setdefault("real", {})[name] = found.trust.to_dict()
        lines.append(line(f"real set {name}: above random orders", None, _interval(found)))
    wanted = 2 if QUICK else 6
    name = "real sets: order of influence above random, interval above zero, else the page says so"
    figure = f"{above} above, {said} of {len(facts.get('real', {}))} pages say which"
    tried = len(facts.get("real", {}))
    return [*lines, line(name, tried >= wanted and said == tried, figure, f">= {wanted} sets")]


def _is_said(found: SetExplanation) -> bool:
    result = {**found.to_dict(), "data": "", "bundle": ""}
    return ("Do not rely on this map" in set_page(result)) != found.holds


def _interval(found: SetExplanation) -> str:
    t = found.trust
    return f"{t.mean:+.3f} [{t.low:+.3f}, {t.high:+.3f}], n = {t.windows}"


def prove_sparse(facts: dict[str, Any]) -> list[Line]:
    """A model with attention: routing's own faithfulness, other weights and routers, and what it costs."""
    kind = "pitch"
    training = plant(kind, TRAINING, patches=PATCHES[kind], seed=0).data
    test = plant(kind, REAL_WINDOWS, patches=PATCHES[kind], seed=1).data
    with tempfile.TemporaryDirectory() as folder:
        run, session = fit(training, SPARSE, Path(folder))
        found = explain_set(Explainer(session), test, most=REAL_WINDOWS)
        window = session.prepare(test.take([0]))[0]
        assert found.routing_trust is not None and found.agreement is not None
        facts["routing"] = {"trust": found.routing_trust.to_dict(), "agreement": found.agreement.to_dict()}
        t = found.routing_trust
        text = f"{t.mean:+.3f} [{t.low:+.3f}, {t.high:+.3f}] above random, rank correlation "
        text += f"with influence {found.agreement.mean:+.2f}, n = {t.windows}"
        return [
            line("faithfulness of routing itself, published good or bad", None, text),
            line("faithfulness of influence on the same model", None, _interval(found)),
            *_other_weights(run, test, window),
            *_costs(session, window),
        ]


def _other_weights(run: Run, test: SeriesSet, window: Any) -> list[Line]:
    example = golden_windows(run, test)
    original = Session("model.onnx", content=onnx_bytes(run, example), threads=1)
    target = int(original.predict(window).argmax())

    def look() -> tuple[Any, Any]:
        session = Session("model.onnx", content=onnx_bytes(run, example), threads=1)
        # A bare file has no class names; the class that is explained stays the same one.
        values = measure_influence(session, window).segments(Decision(target))
        return values, [layer.kept for layer in Recorder(session).run(window).layers]

    before, kept = look()
    state = {name: value.clone() for name, value in run.model.state_dict().items()}
    _draw(run, ".router.")
    changed = float(np.mean([(a != b).mean() for a, b in zip(kept, look()[1], strict=True)]))
    run.model.load_state_dict(state)
    _draw(run, "")
    rank = rank_correlation(before, look()[0])
    run.model.load_state_dict(state)
    return [
        line(
            "randomized weights change influence",
            abs(rank) < MOST_ALIKE,
            f"rank correlation {rank:+.2f}",
            f"below {MOST_ALIKE}",
        ),
        line(
            "a randomized router changes the routing record", changed > 0.01, changed, "> 1 % of the blocks"
        ),
    ]


def _draw(run: Run, part: str) -> None:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, value in run.model.named_parameters():
            if part in name:
                value.copy_(
                    torch.randn(value.shape, generator=generator) * (value.std() if value.numel() > 1 else 1)
                )


def _costs(session: Session, window: Any) -> list[Line]:
    # As long as the windows that attention is for.
    window = np.tile(window, (1, 4))[:, :LONG_STEPS]
    recorder = Recorder(session)
    batch = window[None]
    plain, recorded = _interleaved(lambda: session.predict(batch), lambda: recorder.run(window))
    cost = float(np.median(recorded) / np.median(plain) - 1)
    whole = _interleaved(
        lambda: session.predict(batch), lambda: measure_influence(session, window), CALLS // 10
    )
    predictions = measure_influence(session, window).predictions
    times = float(np.median(whole[1]) / np.median(whole[0]))
    note = f"({1e3 * np.median(plain):.2f} ms per prediction)"
    return [
        line(
            "routing record: cost over a prediction",
            cost < MOST_COST,
            f"{cost:+.1%}",
            f"< {MOST_COST:.0%}",
            note,
        ),
        line("influence of one window: predictions", predictions <= BUDGET, predictions, "< 30"),
        line("influence of one window: time, in predictions", times < 30, times, "< 30"),
    ]


def _interleaved(
    a: Callable[[], object], b: Callable[[], object], calls: int = CALLS
) -> tuple[list[float], list[float]]:
    """Processor seconds of calls, each of one thread: what else the machine does is left out."""
    times: tuple[list[float], list[float]] = ([], [])
    for i in range(calls + 5):
        for kept, call in zip(times, (a, b), strict=True):
            start = time.process_time()
            call()
            if i >= 5:
                kept.append(time.process_time() - start)
    return times


def prove_pages(facts: dict[str, Any]) -> list[Line]:
    """The page: figures, browser, languages; and bundles without prototypes."""
    evidence = Evidence("explain")
    claims = [
        Claim(
            "every figure on the page is in the result", [f"{TESTS}test_page.py::every_figure|changed_figure"]
        ),
        Claim(
            "pages open in Chromium at 390 and 1,440 px, no console error, no request", [f"{TESTS}::browser"]
        ),
        Claim("keyboard, screen reader, print, two languages", [f"{TESTS}test_page.py::readable_by_all"]),
        Claim("the routing record is exactly the selection, by the rule", [f"{TESTS}test_routing.py"]),
        Claim("bundles without prototypes open and explain as before", [f"{TESTS}::opens_and_explains"]),
    ]
    evidence.run_together(claims)
    return [evidence.compare(claim) for claim in claims]


PARTS = {
    "planted": prove_planted,
    "real": prove_real,
    "sparse": prove_sparse,
    "pages": prove_pages,
    "poc": prove_poc,
    "decision": prove_decision_pages,
}


def main() -> int:
    """Measures, compares with the targets, writes prove_explain.json."""
    parts = chosen_parts(__doc__, PARTS)
    torch.set_num_threads(1)
    machine, facts = machine_now(), dict[str, Any]()
    lines = [entry for part in parts or PARTS for entry in PARTS[part](facts)]
    path = SCRATCH / f"prove_explain_{'_'.join(parts)}.json" if parts else report_path("prove_explain")
    return finish(path, lines, machine, **facts)


if __name__ == "__main__":
    sys.exit(main())
