"""Long range that is learned: made tasks, every series new, lengths in stages.

What two distant places say together is learned late and suddenly; series that come again and again are
learned by heart before. So no series is used twice, and the first stage is short, where a step costs little
and places are few, and dense. Each further length goes on from the one before it and ends at the budget.

`recall` takes two findings, neither of which shows without the other, and no single pitch of `match` hints at
anything. Short stages teach pitches first, and signs (`LESSONS` of made_tasks.py); the two lengths that are
tested are of the task itself.

`fit_long` gives what `benchmarks.learning.models.fit_and_judge` gives.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.learning import made_tasks
from benchmarks.learning.models import BUDGET, VARIANTS, as_text, judge, widest_band
from edgesparse.config import RunConfig, resolve_config
from edgesparse.training.run_folder import Run, load_run
from edgesparse.training.train import train


@dataclass(frozen=True)
class Stage:
    """Windows of one length, and how many.

    Attributes:
        lesson: of `made_tasks.LESSONS`, in place of the task itself.
    """

    steps: int
    series: int
    lesson: str | None = None


# Dense throughout.
FIRST = {
    "match": (Stage(256, 6_400, "match-pitch"), Stage(256, 12_800)),
    "product": (Stage(256, 12_800),),
    "recall": (Stage(256, 19_200, "recall-pitch"), Stage(256, 12_800, "recall-short")),
}
# Dense at first, at the budget in the end.
LATER = (Stage(1024, 6_400), Stage(4096, 1_600))
LENGTHS = (1024, 4096)
LONG_RANGE = [f"{task}-{steps}" for steps in LENGTHS for task in made_tasks.TASKS]
TEST_SERIES = 500
# The same tokens at all lengths: those of 1,024 steps, of filters that fit the shortest.
SIZES = ("model.patch=5", "model.block_size=16", "model.dilations=[1, 4, 16]")
SETTINGS = (
    "training.epochs=1",
    "training.min_steps=1",
    "training.max_steps=1000000",
    "training.batch_size=64",
    "training.validation_share=0.0",
    f"training.budget={BUDGET}",
)
DENSE = ("training.dense_share=1.0", "training.anneal_share=1.0")
# At least one block, which is the window's own. By `top_p`, however small, a router that is sure of a distant
# block would add it to the window.
WINDOW_ALONE = ("training.rule=top_k",)


def stages_of(task: str) -> tuple[Stage, ...]:
    """From the shortest to the longest."""
    return (*FIRST[task], *LATER)


def fit_long(name: str, model: str, seed: int, kept: Path) -> dict[str, Any]:
    """Train on a task up to a length and test there.

    Args:
        name: of `LONG_RANGE`.
        model: a key of `VARIANTS`.
        kept: folder of the runs of this code, where a longer length finds the shorter one's.
    """
    task, _, length = name.partition("-")
    number = [stage.steps for stage in stages_of(task)].index(int(length))
    run, seconds = _fit(task, number, model, seed, kept)
    test = made_tasks.make(task, int(length), TEST_SERIES, seed=_seed(seed, 0))
    compute = run.report["compute"]
    share = compute["density"] if VARIANTS[model].is_band else compute["attention_share"]
    return {
        "seconds": seconds,
        "parameters": run.report["parameters"],
        "attention_share": share,
        "model_share": compute["model_share"],
        "right": as_text(judge(run, test)),
    }


def _fit(task: str, number: int, model: str, seed: int, kept: Path) -> tuple[Run, float]:
    """The run of a stage, and the processor seconds of all stages up to it."""
    folder = kept / f"{task}-{number}-{model.replace(' ', '-')}-{seed}"
    cost = folder.with_suffix(".json")
    if cost.exists():
        return load_run(folder), float(json.loads(cost.read_text(encoding="utf-8")))
    stage = stages_of(task)[number]
    before, spent = _fit(task, number - 1, model, seed, kept) if number else (None, 0.0)
    start = time.process_time()
    data = made_tasks.make(stage.lesson or task, stage.steps, stage.series, seed=_seed(seed, number + 1))
    variant = VARIANTS[model]
    settings = [*SETTINGS, *SIZES, f"training.seed={seed}", "training.threads=1", *variant.overrides]
    settings += [*(() if stage.steps in LENGTHS else DENSE), *(WINDOW_ALONE if variant.is_band else ())]
    config = resolve_config(RunConfig(), None, settings)
    if variant.is_band:
        config = widest_band(config, data)
    initial = None if before is None else before.model.state_dict()
    run = train(data, config, folder, quiet=True, initial=initial)
    spent += time.process_time() - start
    cost.write_text(json.dumps(spent), encoding="utf-8")
    return run, spent


def _seed(seed: int, part: int) -> int:
    """Test series and those of each stage are different ones."""
    return 10 * seed + part
