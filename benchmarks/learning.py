"""How well we learn from few labels: sparse beside dense, a band, MiniRocket and published results.

`python -m benchmarks.learning --table accuracy --seeds 3 --jobs 2` runs what is not stored yet, prints the
table and writes bench-results/learning_accuracy.json. Tables: accuracy, labels, long-range, ablation. One
default recipe, budget 25 %, nothing tuned a set; each run has one thread.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.learning_data import Missing, load, published
from benchmarks.learning_runs import VARIANTS, Task, code_version, run
from benchmarks.machine import describe_machine
from edgesparse_runtime.progress import progress

# The cheapest first, so that an interrupted run has something to show.
SETS = (
    "FreezerSmallTrain",
    "CinCECGTorso",
    "Watch",
    "ACSF1",
    "FordA@50",
    "FreezerRegularTrain",
    "OSULeaf",
    "Computers",
    "FordA@250",
    "PLAID",
    "FordA@1000",
)
LABEL_SETS = ("ACSF1", "OSULeaf", "FreezerRegularTrain", "Computers", "FordA@250", "PLAID")
LONG_RANGE = ("match:1024", "recall:1024", "product:1024")
ABLATION_SETS = ("ACSF1", "OSULeaf", "Computers")
RESULTS = Path("bench-results")
Row = dict[str, Any]


def accuracy_tasks(seeds: int) -> list[Task]:
    models = ("sparse", "dense", "minirocket")
    return [Task(s, m, seed=seed) for seed in range(seeds) for s in SETS for m in models]


def label_tasks(seeds: int) -> list[Task]:
    models = ("sparse", "minirocket", "dense")
    return [
        Task(s, m, share, seed)
        for seed in range(seeds)
        for share in (1.0, 0.5, 0.25, 0.1)
        for s in LABEL_SETS
        for m in models
    ]


def long_range_tasks(seeds: int) -> list[Task]:
    models = ("sparse", "band", "dense")
    return [Task(s, m, seed=seed) for seed in range(seeds) for s in LONG_RANGE for m in models]


def ablation_tasks(seeds: int) -> list[Task]:
    models = ("sparse", "band", *(name for name in VARIANTS if name != "sparse"))
    return [Task(s, m, seed=seed) for seed in range(seeds) for s in ABLATION_SETS for m in models]


TABLES: dict[str, Callable[[int], list[Task]]] = {
    "accuracy": accuracy_tasks,
    "labels": label_tasks,
    "long-range": long_range_tasks,
    "ablation": ablation_tasks,
}


def complete(tasks: Sequence[Task], jobs: int) -> tuple[list[Row], dict[str, str]]:
    """Results of the tasks in their order, those of missing packages left out with the reason."""
    missing: dict[str, str] = {}
    for name in sorted({t.dataset for t in tasks if ":" not in t.dataset}):
        try:
            load(name)
        except Missing as reason:
            missing[name] = str(reason)
    wanted = [t for t in tasks if t.dataset not in missing]
    open_tasks = [t for t in dict.fromkeys(wanted) if t.stored() is None]
    # Started afresh, not forked: torch's threads do not survive a fork.
    context = multiprocessing.get_context("spawn")
    with (
        ProcessPoolExecutor(jobs, mp_context=context) as pool,
        progress("Runs", len(wanted), start=len(wanted) - len(open_tasks)) as bar,
    ):
        futures = {pool.submit(run, t): t for t in open_tasks}
        try:
            for future in as_completed(futures):
                task, row = futures[future], future.result()
                bar.advance(1, note=f"{task.dataset} {task.model} {row['accuracy']:.3f}")
        except KeyboardInterrupt:
            pool.shutdown(cancel_futures=True)
            print("\nStopped. What is finished is kept; the same command goes on.", file=sys.stderr)
            raise SystemExit(130) from None
    return [run(t) for t in wanted], missing


def mean(rows: Sequence[Row], **where: Any) -> float | None:
    """Mean accuracy of the rows that match, or None."""
    found = [r["accuracy"] for r in rows if all(r[k] == v for k, v in where.items())]
    return float(np.mean(found)) if found else None


def paired_difference(rows: Sequence[Row], a: Row, b: Row) -> dict[str, Any]:
    """Mean over sets of accuracy(a) - accuracy(b), seeds paired, with a 95 % interval.

    The bootstrap draws seeds within a set and test series within a seed: it says how far the difference on
    these sets is known, not what it would be on other sets.
    """
    pairs: dict[str, list[np.ndarray]] = {}
    for x in (r for r in rows if all(r[k] == v for k, v in a.items())):
        same = {"dataset": x["dataset"], "seed": x["seed"], **b}
        for y in (r for r in rows if all(r[k] == v for k, v in same.items())):
            pairs.setdefault(x["dataset"], []).append(_correct(x) - _correct(y))
    rng = np.random.default_rng(0)
    draws = []
    for _ in range(2000):
        sets = []
        for seeds in pairs.values():
            chosen = rng.integers(0, len(seeds), len(seeds))
            sets.append(np.mean([rng.choice(seeds[i], len(seeds[i])).mean() for i in chosen]))
        draws.append(np.mean(sets))
    value = (
        float(np.mean([np.mean([d.mean() for d in seeds]) for seeds in pairs.values()])) if pairs else None
    )
    low, high = np.quantile(draws, [0.025, 0.975]) if pairs else (None, None)
    return {"sets": len(pairs), "seeds": min(map(len, pairs.values()), default=0), "value": value,
            "low": low and float(low), "high": high and float(high)}  # fmt: skip


def _correct(row: Row) -> np.ndarray:
    bits = np.unpackbits(np.frombuffer(bytes.fromhex(row["correct"]), dtype=np.uint8))
    return bits[: row["n"]].astype(np.float64)


def show(table: str, rows: Sequence[Row]) -> list[str]:
    """The table as Markdown lines."""
    columns = list(dict.fromkeys((r["model"], r["labels"]) for r in rows))
    names = [m if share == 1.0 else f"{m} {share:.0%}" for m, share in columns]
    extra = ["InceptionTime", "HC2"] if table == "accuracy" else []
    lines = [
        f"| set | training | n | seeds | {' | '.join([*names, *extra])} |",
        "|---" * (4 + len(names) + len(extra)) + "|",
    ]
    for dataset in dict.fromkeys(r["dataset"] for r in rows):
        some = [r for r in rows if r["dataset"] == dataset]
        cells = [mean(some, model=m, labels=share) for m, share in columns]
        cells += [published(name, dataset) for name in extra]
        seeds = len({r["seed"] for r in some})
        size = max(r["training_series"] for r in some)
        text = " | ".join("" if c is None else f"{c:.3f}" for c in cells)
        lines.append(f"| {dataset} | {size} | {some[0]['n']} | {seeds} | {text} |")
    whole = [d for d in dict.fromkeys(r["dataset"] for r in rows)]
    cells = []
    for m, share in columns:
        by_set = [mean(rows, model=m, labels=share, dataset=d) for d in whole]
        cells.append(float(np.mean([c for c in by_set if c is not None])))
    lines.append(f"| mean | | | | {' | '.join([f'{c:.3f}' for c in cells] + [''] * len(extra))} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--table", choices=list(TABLES), nargs="+", default=["accuracy"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--sets", nargs="+", help="only these sets")
    parser.add_argument("--models", nargs="+", help="only these models")
    parser.add_argument("--jobs", type=int, default=1, help="runs at the same time, one thread each")
    arguments = parser.parse_args()
    for table in arguments.table:
        tasks = [
            t
            for t in TABLES[table](arguments.seeds)
            if (not arguments.sets or t.dataset in arguments.sets)
            and (not arguments.models or t.model in arguments.models)
        ]
        rows, missing = complete(tasks, arguments.jobs)
        print(f"\n{table}, code {code_version()}")
        print("\n".join(show(table, rows)))
        for name, reason in missing.items():
            print(f"{name} left out: {reason}")
        RESULTS.mkdir(exist_ok=True)
        kept = [{k: v for k, v in r.items() if k != "correct"} for r in rows]
        report = {"machine": describe_machine(1), "code": code_version(), "missing": missing, "rows": kept}
        (RESULTS / f"learning_{table}.json").write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
