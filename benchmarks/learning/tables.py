"""The tables of the learning benchmark: which runs each needs and how it is printed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from benchmarks.learning.confirmation import CONFIRMATION, OPENED, SIBLINGS
from benchmarks.learning.disturbances import DISTURBANCES, DISTURBED_SETS
from benchmarks.learning.long_range import LONG_RANGE
from benchmarks.learning.published import CLASSIFIERS, published
from benchmarks.learning.statistics import Estimate, Rights, paired_difference
from benchmarks.learning.store import DISTURBED_MODELS, Job, Record

Found = Mapping[Job, Record]

# The most informative for their time first; FordA with 1,000 labels stands for it in means over sets.
CORE = {
    "FreezerSmallTrain": "100%",
    "CinCECGTorso": "100%",
    "ACSF1": "100%",
    "FreezerRegularTrain": "100%",
    "Computers": "100%",
    "OSULeaf": "100%",
    "watch": "100%",
    "PLAID": "100%",
    "FordA": "1000",
}
# Sets that have labels to spare: at a quarter, FreezerSmallTrain would keep 7 series.
LABEL_SETS = ("ACSF1", "Computers", "FreezerRegularTrain", "OSULeaf", "PLAID", "watch")
SHARES = ("100%", "50%", "25%", "10%")
# Rows that are the default model under other settings.
SETTINGS: dict[str, tuple[str, ...]] = {"top-k": ("training.rule=top_k",)}
ABLATION = (
    "sparse",
    "top-k",
    "untrained router",
    "no summaries",
    "no value convolution",
    "no augmentation",
    "half augmented",
    "no annealing",
    "stem of one kernel",
    "stem with ridge",
    "band",
    "band with summaries",
    "window of one",
)


@dataclass(frozen=True)
class Table:
    """Runs for a number of seeds, and the printed form of those that are found."""

    jobs: Callable[[int], list[Job]]
    render: Callable[[Found], str]


def rights(found: Found, set_name: str, model: str, labels: str) -> Rights | None:
    """[seeds, test series] of 0 and 1, or None without a run."""
    rows = sorted(
        (job.seed, record["right"])
        for job, record in found.items()
        if (job.set, job.model, job.labels) == (set_name, model, labels)
    )
    return np.array([[float(c) for c in right] for _, right in rows]) if rows else None


def compare(
    found: Found, sets: Mapping[str, str], ours: str, rival: str
) -> tuple[Estimate, list[str]] | None:
    """Mean over the sets that both have of our accuracy minus the rival's, and those sets."""
    both = []
    for name, labels in sets.items():
        a, b = rights(found, name, ours, labels), rights(found, name, rival, labels)
        if a is not None and b is not None:
            both.append((name, a, b))
    if not both:
        return None
    difference = paired_difference([a for _, a, _ in both], [b for _, _, b in both])
    return difference, [name for name, _, _ in both]


def points(difference: Estimate) -> str:
    """A difference of accuracies in points."""
    return f"{100 * difference.value:+.1f} [{100 * difference.low:+.1f}, {100 * difference.high:+.1f}]"


def _grid(
    found: Found, rows: list[tuple[str, str]], models: tuple[str, ...], first: str, extra: bool = False
) -> list[str]:
    """A line a set: accuracy (seeds) of each model, published ones behind."""
    others = CLASSIFIERS if extra else ()
    header = [first, "n", *models, *(f"{c}, published" for c in others)]
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    for name, labels in rows:
        cells, n = [], ""
        for model in models:
            right = rights(found, name, model, labels)
            n = str(right.shape[1]) if right is not None else n
            cells.append("-" if right is None else f"{right.mean():.3f} ({len(right)})")
        if not n:
            continue
        cells += [
            f"{published(c)[name]:.3f}" if name in published(c) and labels == "100%" else "-" for c in others
        ]
        label = name if labels == "100%" else f"{name}, {labels} labels"
        lines.append(f"| {label} | {n} | " + " | ".join(cells) + " |")
    return lines


def _costs(found: Found, models: tuple[str, ...]) -> list[str]:
    """Parameters, training time and compute share a model, medians over the runs shown."""
    lines = [
        "| model | parameters | processor seconds to train | share of dense attention | share of the model |"
    ]
    lines.append("|---|---|---|---|---|")
    for model in models:
        records = [record for job, record in found.items() if job.model == model]
        if not records:
            continue
        cells = [f"{np.median([r['parameters'] for r in records]):,.0f}"]
        cells.append(f"{np.median([r['seconds'] for r in records]):.1f}")
        for share in ("attention_share", "model_share"):
            values = [r[share] for r in records if share in r]
            cells.append(f"{np.median(values):.1%}" if values else "-")
        lines.append(f"| {model} | " + " | ".join(cells) + " |")
    return lines


def _differences(found: Found, sets: Mapping[str, str], pairs: list[tuple[str, str]]) -> list[str]:
    lines = []
    for ours, rival in pairs:
        compared = compare(found, sets, ours, rival)
        if compared is not None:
            difference, names = compared
            lines.append(f"- {ours} minus {rival}: {points(difference)} points, mean over {', '.join(names)}")
    return lines


# The default of `train` to classify.
DEFAULT = "small"
SET_MODELS = (DEFAULT, "full", "dense", "sparse", "band", "MiniRocket", "MultiRocket-Hydra", "QUANT")


def _set_jobs(seeds: int) -> list[Job]:
    # What costs little comes first; then pairs, so that an interrupted run has something to compare.
    rocket = [
        Job(name, model, labels, seed)
        for model in (DEFAULT, "MiniRocket", "QUANT", "MultiRocket-Hydra")
        for seed in range(seeds)
        for name, labels in CORE.items()
    ]
    ours = [
        Job(name, model, labels, seed)
        for seed in range(seeds)
        for name, labels in CORE.items()
        for model in ("sparse", "dense", "band", "full")
    ]
    return rocket + ours


def _render_sets(found: Found) -> str:
    pairs = [(DEFAULT, rival) for rival in ("MiniRocket", "MultiRocket-Hydra", "QUANT", "sparse", "full")]
    pairs += [("sparse", "dense"), ("sparse", "band"), ("sparse", "MiniRocket"), ("dense", "MiniRocket")]
    lines = ["Mean accuracy (number of seeds).", ""]
    lines += _grid(found, list(CORE.items()), SET_MODELS, "set", extra=True)
    lines += ["", *_differences(found, CORE, pairs), "", *_costs(found, SET_MODELS)]
    return "\n".join(lines)


LABEL_MODELS = (DEFAULT, "MiniRocket", "MultiRocket-Hydra", "sparse", "dense")


def _label_jobs(seeds: int) -> list[Job]:
    return [
        Job(name, model, share, seed)
        for seed in range(seeds)
        for share in SHARES
        for name in LABEL_SETS
        for model in LABEL_MODELS
    ]


def _render_labels(found: Found) -> str:
    rows = [(name, share) for name in LABEL_SETS for share in SHARES]
    lines = _grid(found, rows, LABEL_MODELS, "set")
    for share in SHARES[1:]:
        for model in LABEL_MODELS:
            lost = label_loss(found, model, share)
            if lost is not None:
                lines.append(
                    f"\n{model}, {share} of the labels minus all: {points(lost[0])} ({len(lost[1])} sets)"
                )
    return "\n".join(lines)


def label_loss(found: Found, model: str, share: str) -> tuple[Estimate, list[str]] | None:
    """Mean over sets of a model's accuracy with a share of the labels minus with all, and those sets."""
    both = []
    for name in LABEL_SETS:
        a, b = rights(found, name, model, share), rights(found, name, model, "100%")
        if a is not None and b is not None:
            both.append((name, a, b))
    if not both:
        return None
    return paired_difference([a for _, a, _ in both], [b for _, _, b in both]), [name for name, _, _ in both]


FORDA_MODELS = (DEFAULT, "MiniRocket", "sparse", "dense")
FORDA_LABELS = ("50", "250", "1000", "100%")


def _forda_jobs(seeds: int) -> list[Job]:
    return [
        Job("FordA", model, labels, seed)
        for seed in range(seeds)
        for labels in FORDA_LABELS
        for model in FORDA_MODELS
    ]


def _render_forda(found: Found) -> str:
    rows = [("FordA", labels) for labels in FORDA_LABELS]
    return "\n".join(_grid(found, rows, FORDA_MODELS, "set", extra=True))


def _long_jobs(seeds: int) -> list[Job]:
    return [
        Job(name, model, "100%", seed)
        for seed in range(seeds)
        for name in LONG_RANGE
        for model in ("sparse", "band", "dense")
    ]


def _render_long(found: Found) -> str:
    sets = dict.fromkeys(LONG_RANGE, "100%")
    models = ("dense", "sparse", "band")
    lines = _grid(found, list(sets.items()), models, "task and steps")
    lines += ["", *_differences(found, sets, [("sparse", "dense"), ("sparse", "band")])]
    return "\n".join(lines)


ABLATION_SETS = ("ACSF1", "CinCECGTorso", "FreezerSmallTrain", "Computers")


def _ablation_jobs(seeds: int) -> list[Job]:
    return [
        Job(name, "sparse", "100%", seed, SETTINGS[model])
        if model in SETTINGS
        else Job(name, model, "100%", seed)
        for seed in range(seeds)
        for name in ABLATION_SETS
        for model in ABLATION
    ]


def _render_ablation(found: Found) -> str:
    sets = dict.fromkeys(ABLATION_SETS, "100%")
    named = {overrides: model for model, overrides in SETTINGS.items()}
    found = {
        replace(job, model=named.get(job.overrides, job.model), overrides=()): record
        for job, record in found.items()
    }
    lines = _grid(found, list(sets.items()), ABLATION, "set")
    lines += ["", *_differences(found, sets, [(model, "sparse") for model in ABLATION[1:]])]
    return "\n".join(lines)


def _robustness_jobs(seeds: int) -> list[Job]:
    return [
        Job(name, model, "100%", seed)
        for seed in range(seeds)
        for name in DISTURBED_SETS
        for model in DISTURBED_MODELS
    ]


def _render_robustness(found: Found) -> str:
    """Points lost to each disturbance, mean over the runs shown."""
    records = {
        model: [record for job, record in found.items() if job.model == model and "disturbed" in record]
        for model in DISTURBED_MODELS
    }
    lines = [f"| disturbance | strength | {' | '.join(f'points lost, {model}' for model in records)} |"]
    lines.append("|---|---" + "|---" * len(records) + "|")
    for name, (_, strengths) in DISTURBANCES.items():
        for i, strength in enumerate(strengths):
            cells = []
            for model in records:
                lost = [
                    (r["clean"].count("1") - r["disturbed"][name][i].count("1")) / len(r["clean"])
                    for r in records[model]
                ]
                cells.append(f"{100 * float(np.mean(lost)):.1f}" if lost else "-")
            lines.append(f"| {name} | {strength:g} | {' | '.join(cells)} |")
    counts = ", ".join(f"{model} {len(found_records)}" for model, found_records in records.items())
    return "\n".join([*lines, "", f"Runs: {counts}."])


CONFIRMED_MODELS = (DEFAULT, "MultiRocket-Hydra", "MiniRocket", "QUANT")


def confirmation_jobs(
    names: tuple[str, ...] = CONFIRMATION, models: tuple[str, ...] = CONFIRMED_MODELS
) -> list[Job]:
    """One seed, once: whatever comes out is published."""
    return [Job(name, model) for model in models for name in names]


def _render_confirmation(found: Found) -> str:
    lines = _render_edition(found, CONFIRMATION)
    others = dict.fromkeys((name for name in CONFIRMATION if name not in SIBLINGS), "100%")
    without = _differences(found, others, [(DEFAULT, CONFIRMED_MODELS[1])])
    return "\n".join([*lines, "", "Without sets that have a sibling among the opened ones:", "", *without])


def _render_edition(found: Found, names: tuple[str, ...]) -> list[str]:
    sets = dict.fromkeys(names, "100%")
    lines = ["Accuracy, one seed, run once on the recipe that the development sets chose.", ""]
    lines += _grid(found, list(sets.items()), CONFIRMED_MODELS, "set")
    pairs = [(DEFAULT, rival) for rival in CONFIRMED_MODELS[1:]]
    return [*lines, "", *_differences(found, sets, pairs)]


TABLES: dict[str, Table] = {
    "confirmation": Table(lambda _: confirmation_jobs(), _render_confirmation),
    "opened": Table(
        lambda _: confirmation_jobs(OPENED), lambda found: "\n".join(_render_edition(found, OPENED))
    ),
    "sets": Table(_set_jobs, _render_sets),
    "labels": Table(_label_jobs, _render_labels),
    "forda": Table(_forda_jobs, _render_forda),
    "long-range": Table(_long_jobs, _render_long),
    "ablation": Table(_ablation_jobs, _render_ablation),
    "robustness": Table(_robustness_jobs, _render_robustness),
}
