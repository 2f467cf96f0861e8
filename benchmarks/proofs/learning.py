"""`make prove-learning`: the claims about learning, a line each: PASS or FAIL, name, figure, target.

Runs what benchmarks/learning/main.py has not stored yet (hours from nothing; stop and go on at will). QUICK=1
takes two sets, one seed and a fraction of the passes, in under 5 minutes: it judges time and compute only.
`--stored` judges what is there and runs nothing; a claim whose runs are not complete fails. `--runs` judges
nothing, so that a second process can take half of the work.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.learning.confirmation import CONFIRMATION
from benchmarks.learning.data import MissingPackage, load
from benchmarks.learning.long_range import LONG_RANGE
from benchmarks.learning.main import run_jobs
from benchmarks.learning.published import published
from benchmarks.learning.store import Job, code_version
from benchmarks.learning.tables import (
    CORE,
    DEFAULT,
    LABEL_SETS,
    SHARES,
    Found,
    compare,
    confirmation_jobs,
    label_loss,
    points,
    rights,
)
from benchmarks.proofs.lines import Line, finish, line, machine_now, skip
from benchmarks.regression_forecasting import tables as numbers
from benchmarks.regression_forecasting.cases import all_cases
from benchmarks.regression_forecasting.main import run_cases
from benchmarks.support.settings import COMMITTED, QUICK, SCRATCH

# Five seeds where the test set has 500 series or fewer, three elsewhere.
SEEDS, SEEDS_OF_LARGE = (1, 1) if QUICK else (5, 3)
LARGE = ("FreezerSmallTrain", "FreezerRegularTrain", "CinCECGTorso", "PLAID", "FordA")
RESULTS = SCRATCH / "prove_learning_quick.json" if QUICK else COMMITTED / "prove_learning.json"
QUICK_SETS = {"FreezerSmallTrain": "100%", "CinCECGTorso": "100%"}
# Far from learned in any time that QUICK has.
LONG = () if QUICK else tuple(LONG_RANGE)
LONG_MODELS = ("sparse", "band")
# Minutes a run where the others take one.
DEAR = ("PLAID", "FordA")
# Enough to run everything, not to learn.
QUICK_OVERRIDES = ("training.epochs=20",)

# On the confirmation sets.
BEHIND_RIVAL = 0.005
LONG_ACCURACY, LONG_BAND, LONG_MINUTES = 0.95, 0.6, 15.0
BEHIND_DENSE, BEHIND_PUBLISHED, NOISE_COST = 0.005, 0.01, 0.10
COMPUTE, COMPUTE_SLACK = 0.25, 0.02
ACSF1_SECONDS, BUSY_SECONDS = 60.0, 150.0
# Of the two in what is stored.
TIMES = ("acsf1_seconds", "acsf1_busy_seconds")
# What a user would pick today.
RIVAL = "MultiRocket-Hydra"
# Forecasts that the default must not be behind.
FORECAST_RIVALS = ("AutoETS", "seasonal naive")


def needed(sets: Mapping[str, str]) -> list[Job]:
    """All runs of the claims, all sets and models once before any twice."""
    jobs = [Job(name, model) for name in LONG for model in LONG_MODELS]
    names = [*(name for name in sets if name not in DEAR), *(name for name in sets if name in DEAR)]
    for seed in range(SEEDS):
        for name in names:
            if seed >= seeds_of(name):
                continue
            changes = QUICK_OVERRIDES if QUICK else ()
            simple = (DEFAULT, "MiniRocket") if QUICK else (DEFAULT, "MiniRocket", RIVAL, "QUANT", "full")
            jobs += [Job(name, model, sets[name], seed) for model in simple]
            jobs += [Job(name, model, sets[name], seed, changes) for model in ("sparse", "dense")]
            if name in LABEL_SETS and not QUICK:
                jobs += [Job(name, model, s, seed) for s in SHARES[1:] for model in (DEFAULT, RIVAL)]
    return jobs if QUICK else jobs + confirmation_jobs(models=(DEFAULT, RIVAL))


def seeds_of(name: str) -> int:
    """Seeds that a set's claims are judged on; the confirmation sets are run once."""
    if name in CONFIRMATION:
        return 1
    return SEEDS_OF_LARGE if name in LARGE else SEEDS


def count(found: Found, sets: Mapping[str, str], models: tuple[str, ...]) -> tuple[str, bool]:
    """How many runs stand behind a figure, and whether all do."""
    held = sum(1 for job in found if job.set in sets and job.labels == sets[job.set] and job.model in models)
    wanted = len(models) * sum(seeds_of(name) for name in sets)
    return f"{held} of {wanted} runs", held >= wanted


def compare_difference(
    found: Found,
    sets: Mapping[str, str],
    models: tuple[str, str],
    least: float,
    name: str,
    *,
    is_judged: bool = True,
) -> Line:
    """The line of a mean difference that must be at least `least`."""
    compared = compare(found, sets, *models)
    runs, is_complete = count(found, sets, models)
    target = f"at least {100 * least:+.1f} points"
    if compared is None:
        return line(name, False if is_judged else None, f"no pair of runs; {runs}", target)
    difference, names = compared
    figure = f"{points(difference)} points, mean over {len(names)} sets, {runs}"
    return line(name, (is_complete and difference.value >= least) if is_judged else None, figure, target)


def compare_published(found: Found, sets: Mapping[str, str]) -> Line:
    """Our default against the published InceptionTime, on sets that both have with all labels."""
    theirs = published("InceptionTime")
    ours = {
        name: float(right.mean())
        for name, labels in sets.items()
        if labels == "100%" and name in theirs and (right := rights(found, name, DEFAULT, labels)) is not None
    }
    wanted = [name for name, labels in sets.items() if labels == "100%" and name in theirs]
    name, target = "default against published InceptionTime", f"at least {-100 * BEHIND_PUBLISHED:.0f} point"
    if not ours:
        return line(name, None if QUICK else False, "no set with both", target)
    difference = float(np.mean([ours[s] - theirs[s] for s in ours]))
    runs, is_complete = count(found, {s: "100%" for s in wanted}, (DEFAULT,))
    figure = f"{100 * difference:+.1f} points, mean over {len(ours)} sets, {runs}"
    holds = is_complete and difference >= -BEHIND_PUBLISHED
    return line(name, None if QUICK else holds, figure, target)


def compare_shares(found: Found) -> list[Line]:
    """The default against today's rival on parts of the labels, and what halving them costs each."""
    lines = [
        compare_difference(
            found,
            dict.fromkeys(LABEL_SETS, share),
            (DEFAULT, RIVAL),
            0.0,
            f"default against {RIVAL}, {share} of the labels",
            is_judged=not QUICK,
        )
        for share in SHARES[1:]
    ]
    name, target = "half of the labels", f"costs no more than it costs {RIVAL}"
    ours, theirs = label_loss(found, DEFAULT, "50%"), label_loss(found, RIVAL, "50%")
    if ours is None or theirs is None:
        return [*lines, line(name, None if QUICK else False, "no pair of runs", target)]
    runs, is_complete = count(found, dict.fromkeys(LABEL_SETS, "50%"), (DEFAULT, RIVAL))
    figure = f"{points(ours[0])} points, {RIVAL} {points(theirs[0])}, {len(ours[1])} sets, {runs}"
    return [*lines, line(name, is_complete and ours[0].value >= theirs[0].value, figure, target)]


def compare_long(found: Found, name: str) -> list[Line]:
    """What is learned of a task at a length, what a band of equal density learns, and how long it takes."""
    if QUICK:
        return []
    sparse, band = (found.get(Job(name, model)) for model in LONG_MODELS)
    lines = []
    target = f"at least {LONG_ACCURACY}, within {LONG_MINUTES:.0f} minutes of two cores"
    if sparse is None:
        lines.append(line(f"{name}, sparse", False, "not run", target))
    else:
        right, minutes = sparse["right"].count("1") / sparse["n"], sparse["seconds"] / 120
        share = f"{sparse['attention_share']:.1%} of dense attention"
        figure = f"{right:.3f} in {minutes:.1f} minutes of two cores, {share}"
        holds = right >= LONG_ACCURACY and minutes <= LONG_MINUTES
        lines.append(line(f"{name}, sparse", holds, figure, target))
    target = f"at most {LONG_BAND}"
    if band is None:
        return [*lines, line(f"{name}, band of equal density", False, "not run", target)]
    right = band["right"].count("1") / band["n"]
    figure = f"{right:.3f}, {band['attention_share']:.1%} of the pairs"
    return [*lines, line(f"{name}, band of equal density", right <= LONG_BAND, figure, target)]


def compare_noise(found: Found) -> Line:
    """Points that the default loses to noise of a twentieth of a channel's spread."""
    name, target = "noise of 5 %", f"costs at most {100 * NOISE_COST:.0f} points"
    lost: dict[str, list[float]] = {}
    for job, record in found.items():
        if job.model == DEFAULT and job.labels == "100%" and "disturbed" in record:
            clean, noisy = record["clean"], record["disturbed"]["noise"][0]
            lost.setdefault(job.set, []).append((clean.count("1") - noisy.count("1")) / len(clean))
    if not lost:
        return line(name, None if QUICK else False, "no run", target)
    mean = float(np.mean([np.mean(values) for values in lost.values()]))
    figure = f"{100 * mean:.1f} points, mean over {', '.join(lost)}"
    return line(name, None if QUICK else mean <= NOISE_COST, figure, target)


def compare_transformer(found: Found, sets: Mapping[str, str]) -> Line:
    """What the transformer adds to the small model; a report, not a claim."""
    compared = compare(found, sets, "full", DEFAULT)
    name, target = "transformer over the small model", "reported"
    if compared is None:
        return line(name, None, "no pair of runs", target)
    runs, _ = count(found, sets, ("full", DEFAULT))
    return line(name, None, f"{points(compared[0])} points, {len(compared[1])} sets, {runs}", target)


def compare_forecasting(found: numbers.Found) -> list[Line]:
    """The default's MASE against each of the two."""
    lines = []
    ours = numbers.mean_mase(found, "default")
    for rival in FORECAST_RIVALS:
        theirs, apart = numbers.mean_mase(found, rival), numbers.mase_difference(found, "default", rival)
        name, target = f"forecasting: mean MASE against {rival}", f"at most {rival}'s"
        if ours is None or theirs is None or apart is None:
            lines.append(line(name, False, "not every set was run", target))
            continue
        note = f"(theirs {theirs:.3f}; apart {apart} over groups)"
        lines.append(line(name, ours <= theirs, round(ours, 4), target, note))
    return lines


def compare_regression(found: numbers.Found) -> Line:
    """The default's mean rank against every rival's."""
    name, target = "regression: mean RMSE rank", "at most every rival's"
    ranks = numbers.mean_ranks(found)
    if ranks is None:
        return line(name, False, "not every set was run", target)
    rivals = {model: ranks[model] for model in numbers.RANKED[1:]}
    note = (
        f"of {len(numbers.RANKED)} ("
        + ", ".join(f"{model} {rank:.1f}" for model, rank in rivals.items())
        + ")"
    )
    return line(name, ranks["default"] <= min(rivals.values()), round(ranks["default"], 2), target, note)


def compare_numbers(until: float | None) -> list[Line]:
    """Forecasting and regression against what a user would pick; half an hour of one core from nothing."""
    if QUICK:
        return [skip("forecasting and regression", "left out with QUICK=1")]
    found = run_cases(all_cases(), until=until)
    return [*compare_forecasting(found), compare_regression(found)]


def compare_compute(found: Found) -> Line:
    """The largest share of dense attention's compute that a sparse model of the sets used."""
    shares = [record["attention_share"] for job, record in found.items() if job.model == "sparse"]
    target = f"at most {COMPUTE + COMPUTE_SLACK:.0%}"
    if not shares:
        return line("sparse attention's compute", False, "no run", target)
    figure = f"mean {np.mean(shares):.1%}, most {max(shares):.1%}, {len(shares)} runs"
    return line("sparse attention's compute", max(shares) <= COMPUTE + COMPUTE_SLACK, figure, target)


@contextmanager
def busy_core() -> Iterator[None]:
    """One core is at work on something else meanwhile."""
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as other:
        try:
            yield
        finally:
            other.kill()


def time_default_run() -> float:
    """Seconds of `edgesparse train` on ACSF1, two threads."""
    load("ACSF1")
    spec = importlib.util.find_spec("sktime")
    assert spec is not None
    assert spec.origin is not None
    data = Path(spec.origin).parent / "datasets" / "data" / "ACSF1" / "ACSF1_TRAIN.ts"
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "edgesparse_runtime.cli", "train", str(data), "-o", f"{folder}/run"]
        command += ["--set", "training.threads=2"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"edgesparse train failed: {done.stderr.strip().splitlines()[-1]}")
    return time.monotonic() - start


def compare_times(store: dict[str, Any], *, may_run: bool) -> list[Line]:
    """The lines about one run's time, alone and beside a busy core; the measurements are stored."""
    name = "one default run on ACSF1, two cores"
    return [
        _compare_time(store, TIMES[0], nullcontext(), name, ACSF1_SECONDS, may_run=may_run),
        _compare_time(store, TIMES[1], busy_core(), f"{name}, one busy", BUSY_SECONDS, may_run=may_run),
    ]


def _compare_time(
    store: dict[str, Any],
    key: str,
    beside: AbstractContextManager[None],
    name: str,
    most: float,
    *,
    may_run: bool,
) -> Line:
    target = f"under {most:.0f} s"
    if key not in store and may_run:
        try:
            with beside:
                store[key] = time_default_run()
        except MissingPackage as reason:
            return line(name, False, f"ACSF1 {reason}", target)
    if key not in store:
        return line(name, False, "not measured", target)
    return line(name, store[key] < most, f"{store[key]:.0f} s", target)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--stored", action="store_true", help="judge what is there, run nothing")
    parser.add_argument("--time", action="store_true", help="with --stored: measure the one run's times too")
    parser.add_argument("--runs", action="store_true", help="run what is missing and judge nothing")
    arguments = parser.parse_args()
    version = {
        "code": code_version(Job("ACSF1", "sparse")),
        "rivals": code_version(Job("ACSF1", RIVAL)),
    }
    earlier = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    store: dict[str, Any] = {"version": version}
    if earlier.get("version") == version:
        store |= {key: earlier[key] for key in TIMES if key in earlier}
    sets = QUICK_SETS if QUICK else CORE
    until = time.monotonic() - 1 if arguments.stored else None
    if arguments.runs:
        run_jobs(needed(sets))
        run_cases(() if QUICK else all_cases())
        return 0
    # First of all, while nothing else of ours runs.
    lines = compare_times(store, may_run=arguments.time or not arguments.stored)
    found = run_jobs(needed(sets), until=until)
    lines += [
        compare_difference(
            found, sets, ("sparse", "dense"), -BEHIND_DENSE, "sparse against dense", is_judged=not QUICK
        ),
        compare_compute({job: record for job, record in found.items() if job.set in sets}),
        *(entry for name in LONG for entry in compare_long(found, name)),
        *(
            compare_difference(
                found, sets, (DEFAULT, rival), 0.0, f"default against {rival}", is_judged=not QUICK
            )
            for rival in (RIVAL, "QUANT", "MiniRocket")
        ),
        compare_difference(
            found,
            dict.fromkeys(CONFIRMATION, "100%"),
            (DEFAULT, RIVAL),
            -BEHIND_RIVAL,
            f"default against {RIVAL}, confirmation sets",
            is_judged=not QUICK,
        ),
        compare_published(found, sets),
        *compare_shares(found),
        compare_noise(found),
        compare_transformer(found, sets),
        *compare_numbers(until),
    ]
    return finish(RESULTS, lines, machine_now(1), **store)


if __name__ == "__main__":
    sys.exit(main())
