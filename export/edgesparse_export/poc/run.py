"""`run_poc`: cell by cell, resumable, then latency, then the verdict, all in one result file."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edgesparse.training.data import fingerprint
from edgesparse_export.poc.cell import Workplace, run_cell
from edgesparse_export.poc.plan import DENSE, RIVAL, RUNGS, Block, Cell, Plan, overrides
from edgesparse_export.poc.store import RESULT, CellStore
from edgesparse_export.poc.workers import run_cells
from edgesparse_runtime.bundle.atomic import replace_text
from edgesparse_runtime.bundle.version import tool_version
from edgesparse_runtime.data.series_set import SeriesSet
from edgesparse_runtime.errors import GateError, Interrupted
from edgesparse_runtime.evaluation.evaluate import independent_groups
from edgesparse_runtime.measure.decision.answers import NOISE, from_text
from edgesparse_runtime.measure.decision.latency import time_bundles
from edgesparse_runtime.measure.decision.verdict import Measured, compare_right, decide, mean_share
from edgesparse_runtime.measure.environment import describe_environment
from edgesparse_runtime.session import Session

SCHEMA = "edgesparse.poc/1"
REFERENCE = f"{DENSE} float32"
Say = Callable[[str], None]


@dataclass
class _Course:
    """What is done, what was dropped, and how long the rest may take."""

    store: CellStore
    plan: Plan
    say: Say
    cells: dict[str, dict[str, Any]] = field(default_factory=dict)
    dropped: list[dict[str, str]] = field(default_factory=list)

    @property
    def spent(self) -> float:
        """Seconds of computing, of earlier runs too."""
        return sum(float(cell["seconds"]) for cell in self.cells.values())

    def expected(self, cells: Iterable[Cell]) -> float | None:
        """Seconds that these cells may take; None before the first of each kind."""
        total = 0.0
        for cell in cells:
            alike = [c["seconds"] for c in self.cells.values() if c["rung"] == cell.rung]
            if not alike and cell.rung in (DENSE, *(r for r in RUNGS if r.startswith("sparse"))):
                # Transformers take about as long as each other.
                alike = [c["seconds"] for c in self.cells.values() if c.get("attention_share") is not None]
            if not alike:
                return None
            total += float(np.mean(alike))
        return total


def run_poc(
    training: SeriesSet,
    test: SeriesSet,
    out: Path,
    plan: Plan,
    *,
    say: Say = lambda _: None,
    overwrite: bool = False,
    facts: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Measure all cells of a plan that `out` does not hold yet, and write poc.json.

    Args:
        training: labeled series to train on.
        test: labeled series that no model sees before it is measured.
        say: progress, one line each.
        overwrite: forget what `out` holds.
        facts: kept in the result, such as the command.

    Raises:
        InputError: `out` holds something else, or a poc of other data or settings.
        GateError: the dense model, which all others are compared with, could not be trained and exported.
        Interrupted: Ctrl-C; finished cells are kept.
    """
    key = {
        "data": [fingerprint(training), fingerprint(test)],
        "settings": list(plan.settings),
        "version": tool_version(),
    }
    store = CellStore(out, key, overwrite=overwrite)
    course = _Course(store, plan, say)
    try:
        _measure(course, Workplace(training, test, plan.settings, out))
        if "failed" in course.cells[Cell(DENSE, 0).name]:
            raise GateError(f"The dense model failed: {course.cells[Cell(DENSE, 0).name]['failed']}")
        latency = _time(course, out)
    except KeyboardInterrupt:
        done = len(course.cells)
        raise Interrupted(
            f"{out} keeps the {done} trainings that are complete: run the same command again to continue"
        ) from None
    result = _result(course, latency, training, test) | (facts or {})
    replace_text(out / RESULT, json.dumps(result, indent=1) + "\n")
    return result


def _measure(course: _Course, place: Workplace) -> None:
    blocks = course.plan.blocks()
    for block in blocks:
        for cell in block.cells:
            found = course.store.get(cell)
            if found is not None:
                course.cells[cell.name] = found
    began, total = time.monotonic(), sum(len(block.cells) for block in blocks)
    for cells, later in _rounds(course, blocks):
        # The rival's latency is measured with its training: nothing may run beside that.
        alone = [cell for cell in cells if cell == Cell(RIVAL, 0)]
        others = [cell for cell in cells if cell not in alone]
        for part, jobs in ((alone, 1), (others, course.plan.jobs)):
            for cell, found in run_cells(part, place, jobs, run_cell):
                course.store.put(cell, found)
                course.cells[cell.name] = found
                rest = [c for c in (*cells, *later) if c.name not in course.cells]
                _tell(course, cell, f"{len(course.cells)}/{total}", rest, time.monotonic() - began)


def _rounds(course: _Course, blocks: list[Block]) -> Iterator[tuple[list[Cell], list[Cell]]]:
    """Cells to measure now, and those that may follow: all at once, or block by block under a time budget."""
    missing = [[cell for cell in block.cells if cell.name not in course.cells] for block in blocks]
    if course.plan.time_budget is None:
        yield [cell for cells in missing for cell in cells], []
        return
    for i, (block, cells) in enumerate(zip(blocks, missing, strict=True)):
        if cells and not _is_over(course, block, cells):
            yield cells, [cell for later in missing[i + 1 :] for cell in later]


def _is_over(course: _Course, block: Block, missing: list[Cell]) -> bool:
    """Whether the time budget has no room for a block; it is then dropped, and that is said."""
    budget = course.plan.time_budget
    if budget is None or block.is_needed:
        return False
    expected = course.expected(missing) or 0.0
    if course.spent + expected <= budget:
        return False
    reason = f"{course.spent:.0f} s of {budget:.0f} s are spent, and it would take about {expected:.0f} s"
    course.dropped.append({"what": block.name, "reason": reason})
    course.say(f"Dropped by --time-budget: {block.name} ({reason})")
    return True


def _tell(course: _Course, cell: Cell, done: str, rest: list[Cell], seconds: float) -> None:
    found = course.cells[cell.name]
    if "failed" in found:
        what = f"failed: {found['failed']}"
    else:
        right = from_text(found["answers"]["float32"]["right"])
        what = f"accuracy {right.mean():.3f}, {found['seconds']:.0f} s"
    left = course.expected(rest)
    left = None if left is None else left / min(course.plan.jobs, max(1, len(rest)))
    eta = "" if left is None or not rest else f", ETA {left / 60:.0f} min"
    labels = "" if cell.share == 1 else f", {cell.share:.0%} of the labels"
    course.say(f"poc: {done}  {seconds:.0f} s{eta}  {cell.rung}, seed {cell.seed}{labels}: {what}")


def _time(course: _Course, out: Path) -> dict[str, Any]:
    """Latency of each rung's first bundle that works, all interleaved."""
    bundles = {
        rung: course.cells[Cell(rung, 0).name]
        for rung in course.plan.rungs
        if course.cells[Cell(rung, 0).name].get("bundle")
    }
    of = {"models": {r: c["sha256"] for r, c in bundles.items()}, "seconds": course.plan.seconds}
    found = course.store.latency(of)
    if found is None:
        sessions = {
            f"{rung} {precision}": Session(out / cell["bundle"], precision=precision, threads=1)
            for rung, cell in bundles.items()
            for precision in cell["answers"]
        }
        course.say(f"poc: timing {len(sessions)} models with interleaved calls")
        found = time_bundles(sessions, course.plan.seconds) | {"environment": describe_environment()}
        course.store.put_latency(of, found)
    return {name: value for name, value in found.items() if name != "of"}


def _result(course: _Course, latency: dict[str, Any], training: SeriesSet, test: SeriesSet) -> dict[str, Any]:
    clusters = independent_groups(test)
    works = {name: cell for name, cell in course.cells.items() if "failed" not in cell}
    full = [cell for cell in works.values() if cell["share"] == 1]
    models: dict[str, Measured] = {}
    rows: dict[str, dict[str, Any]] = {}
    for rung in course.plan.rungs:
        cells = [cell for cell in full if cell["rung"] == rung]
        for precision in ("float32", "int8"):
            # A precision counts where every seed has it: seeds that the gate refused must not be left out.
            if not cells or any(precision not in cell["answers"] for cell in cells):
                continue
            name = f"{rung} {precision}"
            models[name], rows[name] = _row(rung, precision, cells, latency, clusters)
    failed = {name: cell["failed"] for name, cell in course.cells.items() if "failed" in cell}
    assert training.labels is not None
    return {
        "schema": SCHEMA,
        "data": _data(training, test),
        "plan": {
            "seeds": sorted({cell["seed"] for cell in full}),
            "asked_seeds": course.plan.seeds,
            "jobs": course.plan.jobs,
            "settings": list(course.plan.settings),
            "margin": course.plan.margin,
            "time_budget": course.plan.time_budget,
            "overrides": {r: overrides(r, 0, course.plan.settings) for r in course.plan.rungs if r != RIVAL},
        },
        "models": rows,
        "verdict": decide(models, REFERENCE, course.plan.margin, clusters),
        "curve": _curve(course.plan, works, clusters),
        "latency": latency,
        "noise": NOISE,
        "dropped": course.dropped,
        "left_out": dict(course.plan.left_out),
        "failed": failed,
        "cells": [course.cells[name] for name in sorted(course.cells)],
        "seconds": course.spent,
        "edgesparse": tool_version(),
    }


def _row(
    rung: str, precision: str, cells: list[dict[str, Any]], latency: dict[str, Any], clusters: Any
) -> tuple[Measured, dict[str, Any]]:
    answers = {cell["seed"]: cell["answers"][precision] for cell in cells}
    right = {seed: from_text(found["right"]) for seed, found in answers.items()}
    noisy = {seed: from_text(found["noisy"]) for seed, found in answers.items()}
    first = cells[0]
    time_of = latency["rows"].get(f"{rung} {precision}") or first.get("latency")
    measured = Measured(
        right,
        None if time_of is None else time_of["p50"],
        None if time_of is None else time_of.get("low"),
        has_bundle=first.get("bundle") is not None,
    )
    shares = [cell["attention_share"] for cell in cells if cell.get("attention_share") is not None]
    return measured, {
        "rung": rung,
        "precision": precision,
        "accuracy": mean_share(right, clusters).to_dict(),
        "by_seed": {str(seed): float(values.mean()) for seed, values in right.items()},
        "noise_costs": compare_right(noisy, right, clusters).to_dict(),
        "latency": time_of,
        "attention_share": float(np.mean(shares)) if shares else None,
        "parameters": first.get("parameters"),
        "bytes": (first.get("bytes") or {}).get(precision),
        "bundle": first.get("bundle"),
        "sha256": (first.get("sha256") or {}).get(precision),
        "train_seconds": float(np.mean([cell["seconds"] for cell in cells])),
        "int8_note": first.get("int8_note", ""),
        "confusion": np.sum([found["confusion"] for found in answers.values()], axis=0).tolist(),
        "unknown": answers[first["seed"]].get("unknown"),
    }


def _curve(plan: Plan, cells: dict[str, dict[str, Any]], clusters: Any) -> dict[str, Any]:
    """By rung: accuracy at each share of the labels, and what the last doubling gained; the same seeds."""
    found: dict[str, Any] = {}
    for rung in plan.rungs:
        by_share: dict[float, dict[int, Any]] = {}
        series: dict[float, int] = {}
        for cell in cells.values():
            if cell["rung"] == rung:
                right = from_text(cell["answers"]["float32"]["right"])
                by_share.setdefault(cell["share"], {})[cell["seed"]] = right
                series[cell["share"]] = cell["series"]
        shares = sorted(by_share)
        if len(shares) < 2:
            continue
        seeds = set.intersection(*(set(right) for right in by_share.values()))
        if not seeds:
            continue
        kept = {share: {s: right[s] for s in sorted(seeds)} for share, right in by_share.items()}
        points = [
            {"share": share, "series": series[share], **mean_share(kept[share], clusters).to_dict()}
            for share in shares
        ]
        gain = compare_right(kept[1.0], kept[0.5], clusters).to_dict() if 0.5 in kept else None
        found[rung] = {"points": points, "gain_of_doubling": gain}
    return found


def _data(training: SeriesSet, test: SeriesSet) -> dict[str, Any]:
    assert training.labels is not None
    lengths = [x.shape[1] for x in [*training.series, *test.series]]
    groups = test.groups
    seen = {x.tobytes() for x in training.series}
    return {
        "source": training.source,
        "test_source": test.source,
        "training_series": len(training),
        "test_series": len(test),
        "classes": [str(name) for name in np.unique(training.labels)],
        "channels": list(training.channels),
        "shortest": min(lengths),
        "longest": max(lengths),
        "period": training.grid.period,
        "test_groups": None if groups is None else len(np.unique(groups)),
        "in_both": sum(x.tobytes() in seen for x in test.series),
        "hashes": {"training": fingerprint(training), "test": fingerprint(test)},
    }
