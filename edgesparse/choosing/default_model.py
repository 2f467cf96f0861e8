"""Which model is trained where nobody says: one rule for the command line and for `edgesparse.estimators`."""

from __future__ import annotations

from collections.abc import Iterable

# What the names set.
MODELS: dict[str, dict[str, object]] = {
    "auto": {"model.stem": 2},
    "small": {"model.layers": 0},
    "full": {"model.stem": 2},
}
# Settings that the small model knows too; any other selects a transformer, as its own options do.
SMALL_SETTINGS = frozenset(
    [
        f"model.{name}"
        for name in ("competing_groups", "dilations", "filters", "fixed_scale", "layers", "patch")
    ]
    + [f"model.{name}" for name in ("smoothed", "stem", "stretched", "thresholds")]
    + [f"training.{name}" for name in ("seed", "task", "threads", "validation_share")]
)


def default_model(task: str, options: Iterable[object], settings: Iterable[str]) -> str | None:
    """ "small", unless what is given is for a transformer alone; None = as configured.

    It was the better one on the mean of nine data sets (docs/benchmarks.md) and on the two regression sets
    that the choice was made on (benchmarks/NOTES.md), and takes seconds.

    Args:
        options: of the transformer; None = not given.
        settings: names of those that are given, as `training.epochs`.
    """
    is_asked = any(option is not None for option in options) or not set(settings) <= SMALL_SETTINGS
    return None if is_asked or task == "forecasting" else "small"
