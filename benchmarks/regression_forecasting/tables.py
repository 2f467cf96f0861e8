"""The two tables, and the comparisons that the claims rest on.

A model's figure on a set is the mean over its seeds; groups are drawn whole for intervals, sets are fixed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.regression_forecasting import forecasting_sets, ours, regression_sets, rivals
from benchmarks.regression_forecasting.cases import SEEDS, Case, Record
from edgesparse_runtime.arrays import DoubleArray

Found = Mapping[Case, Record]
# Ranked; the mean of the training targets is shown beside.
RANKED = ("default", "MultiRocket-Hydra", "LightGBM", "linear")
RESAMPLES = 2000


@dataclass(frozen=True)
class Estimate:
    """A mean over sets and its 95 % interval over groups."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:+.3f} [{self.low:+.3f}, {self.high:+.3f}]"


def errors(found: Found, task: str, name: str, model: str) -> list[Record]:
    """The results of a model on a set, one for each seed that is there."""
    cases = [Case(task, name, model, seed) for seed in range(SEEDS)]
    return [found[case] for case in cases if case in found]


def rmse(records: Sequence[Record]) -> float:
    """Mean over seeds of the root of the mean squared error."""
    return float(np.mean([np.sqrt(np.mean(np.square(record["error"]))) for record in records]))


def mase(records: Sequence[Record]) -> float:
    """Mean over seeds and tested places of the scaled absolute error."""
    return float(np.mean([record["error"] for record in records]))


def mean_mase(found: Found, model: str) -> float | None:
    """Over all forecasting sets; None where one is missing."""
    held = [errors(found, "forecasting", name, model) for name in forecasting_sets.SETS]
    return float(np.mean([mase(records) for records in held])) if all(held) else None


def mase_difference(found: Found, model: str, rival: str) -> Estimate | None:
    """Mean over sets of a model's MASE minus the rival's; None where a set is missing."""
    value, draws = 0.0, np.zeros(RESAMPLES)
    rng = np.random.default_rng(0)
    for name in forecasting_sets.SETS:
        pair = [errors(found, "forecasting", name, x) for x in (model, rival)]
        if not all(pair):
            return None
        apart = np.subtract(*(np.mean([record["error"] for record in records], axis=0) for records in pair))
        groups = np.array(pair[0][0]["groups"])
        value += float(apart.mean()) / len(forecasting_sets.SETS)
        draws += _drawn_means(apart, groups, rng) / len(forecasting_sets.SETS)
    low, high = np.quantile(draws, [0.025, 0.975])
    return Estimate(value, float(low), float(high))


def _drawn_means(values: DoubleArray, groups: np.ndarray, rng: np.random.Generator) -> DoubleArray:
    """Means of draws of whole groups, [RESAMPLES]."""
    names = np.unique(groups)
    sums = np.array([values[groups == name].sum() for name in names])
    counts = np.array([(groups == name).sum() for name in names])
    weights = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), RESAMPLES)
    return np.asarray((weights @ sums) / (weights @ counts), dtype=np.float64)


def mean_ranks(found: Found) -> dict[str, float] | None:
    """Mean rank by RMSE over the regression sets, 1 = best; None where a result is missing."""
    ranks = []
    for name in regression_sets.SETS:
        held = [errors(found, "regression", name, model) for model in RANKED]
        if not all(held):
            return None
        figures = np.array([rmse(records) for records in held])
        # Of equal errors each has the mean of their ranks.
        ranks.append([(figures < x).sum() + ((figures == x).sum() + 1) / 2 for x in figures])
    return dict(zip(RANKED, np.mean(ranks, axis=0).tolist(), strict=True))


def groups_ahead(found: Found, name: str, rival: str) -> str:
    """In how many tested groups of a forecasting set our default has the smaller error."""
    pair = [errors(found, "forecasting", name, model) for model in ("default", rival)]
    if not all(pair):
        return "-"
    mine, theirs = (np.mean([record["error"] for record in records], axis=0) for records in pair)
    groups = np.array(pair[0][0]["groups"])
    names = np.unique(groups)
    ahead = sum(mine[groups == x].mean() < theirs[groups == x].mean() for x in names)
    return f"{ahead} of {len(names)}"


def render_forecasting(found: Found) -> str:
    """MASE of each model on each set."""
    models = ["default", *rivals.FORECASTERS]
    lines = [
        f"| set | training windows | {' | '.join(models)} | groups where the default is ahead of AutoETS |",
        "|---" * (len(models) + 3) + "|",
    ]
    for name in forecasting_sets.SETS:
        held = [errors(found, "forecasting", name, model) for model in models]
        trained = next((str(records[0]["trained"]) for records in held if records), "-")
        figures = [f"{mase(records):.3f} ({len(records)})" if records else "-" for records in held]
        lines.append(
            f"| {name} | {trained} | {' | '.join(figures)} | {groups_ahead(found, name, 'AutoETS')} |"
        )
    means = [mean_mase(found, model) for model in models]
    lines.append(f"| mean | | {' | '.join('-' if x is None else f'{x:.3f}' for x in means)} | |")
    lines.append("")
    for rival in rivals.FORECASTERS:
        apart = mase_difference(found, "default", rival)
        if apart is not None:
            lines.append(f"- default minus {rival}: {apart} MASE, mean over the sets")
    return "\n".join(lines)


def render_regression(found: Found) -> str:
    """RMSE of each model on each set."""
    models = [*RANKED, "mean", "transformer"]
    lines = [
        f"| set | training series | tested | {' | '.join(models)} |",
        "|---" * (len(models) + 3) + "|",
    ]
    for name in regression_sets.SETS:
        held = [errors(found, "regression", name, model) for model in models]
        first = next((records[0] for records in held if records), None)
        sizes = "- | -" if first is None else f"{first['trained']} | {_tested(first)}"
        figures = [f"{rmse(records):.4g} ({len(records)})" if records else "-" for records in held]
        lines.append(f"| {name} | {sizes} | {' | '.join(figures)} |")
    ranks = mean_ranks(found)
    if ranks is not None:
        shown = [f"{ranks[model]:.1f}" if model in ranks else "" for model in models]
        lines.append(f"| mean rank of {len(RANKED)} | | | {' | '.join(shown)} |")
    return "\n".join(lines)


def _tested(record: Record) -> str:
    series, groups = len(record["error"]), len({*record["groups"]})
    return f"{series}" if series == groups else f"{series} of {groups} groups"


TABLES = {"forecasting": render_forecasting, "regression": render_regression}
MODELS = {"forecasting": ["default", *rivals.FORECASTERS], "regression": [*ours.MODELS, *rivals.REGRESSORS]}
