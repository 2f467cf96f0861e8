"""Parameters of every estimator, and the configuration that they stand for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import yaml
from sklearn.utils import check_random_state

from edgesparse.choosing.default_model import MODELS, default_model
from edgesparse.config import RunConfig, resolve_config
from edgesparse.estimators.errors import InvalidInputError, as_value_errors
from edgesparse.presets import PRESETS


class Options:
    """What `edgesparse train` takes as options, by the same names; values are looked at in `fit`.

    Args:
        model: "small", fixed features and a linear map, in seconds; "full", with a transformer added; "auto",
            full where it is better out of fold, else small. None = small to classify, unless a parameter
            selects a transformer (`preset`, `attention`, `budget`, `epochs`, `settings`).
        preset: size of the transformer: "tiny", "small" or "base". None = tiny.
        attention: "sparse" or "dense". None = sparse.
        budget: share of dense attention's compute, 0 to 1. None = 0.3.
        epochs: passes over the training series. None = as docs/guides/training.md says.
        settings: any other setting, as `{"training.validation_share": 0.2, "model.width": 32}`.
        random_state: seed of all random numbers. None = another one each time.
        n_jobs: threads; -1 = one per core, None = as PyTorch is set.
        verbose: show progress.
    """

    def __init__(
        self,
        model: str | None = None,
        preset: str | None = None,
        attention: str | None = None,
        budget: float | None = None,
        epochs: int | None = None,
        settings: Mapping[str, object] | None = None,
        random_state: int | np.random.RandomState | None = 0,
        n_jobs: int | None = None,
        verbose: bool = False,
    ) -> None:
        self.model = model
        self.preset = preset
        self.attention = attention
        self.budget = budget
        self.epochs = epochs
        self.settings = settings
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.verbose = verbose
        super().__init__()


def to_run_config(options: Options, task: str, **more: object) -> RunConfig:
    """The configuration that `edgesparse train` would resolve from the same options.

    Args:
        more: settings of the task, as `horizon`.

    Raises:
        InvalidInputError: an unknown name, or a value that does not fit.
    """
    _check_choice("preset", options.preset, PRESETS)
    _check_choice("model", options.model, MODELS)
    settings = _checked_settings(options.settings)
    given = (options.attention, options.budget, options.preset, options.epochs)
    model = options.model or default_model(task, given, settings)
    values: dict[str, object] = {} if model is None else dict(MODELS[model])
    flags = {
        "model.attention": options.attention,
        "training.task": task,
        "training.budget": options.budget,
        "training.epochs": options.epochs,
        "training.seed": _seed(options.random_state),
        **{f"training.{name}": value for name, value in more.items()},
    }
    values |= {name: value for name, value in flags.items() if value is not None}
    values |= settings
    base = RunConfig(model=PRESETS[options.preset or "tiny"]())
    with as_value_errors():
        return resolve_config(base, None, [f"{name}={_as_yaml(value)}" for name, value in values.items()])


def _check_choice(name: str, value: object, known: Mapping[str, object]) -> None:
    if value is not None and (not isinstance(value, str) or value not in known):
        raise InvalidInputError(f"`{name}` must be one of {', '.join(known)}; got {value!r}.")


def _checked_settings(settings: object) -> dict[str, object]:
    if settings is None:
        return {}
    if not isinstance(settings, Mapping) or not all(isinstance(name, str) for name in settings):
        raise InvalidInputError(
            f"`settings` must map names to values, as {{'training.epochs': 10}}; got {settings!r}."
        )
    return dict(settings)


def _seed(random_state: object) -> int:
    if isinstance(random_state, (int, np.integer)) and not isinstance(random_state, bool):
        return int(random_state)
    try:
        return int(check_random_state(random_state).randint(2**31 - 1))
    except ValueError:
        raise InvalidInputError(
            f"`random_state` must be a whole number, a RandomState or None; got {random_state!r}."
        ) from None


def _as_yaml(value: object) -> str:
    """The value as YAML reads it back; JSON would write 1e-05, which YAML takes for text."""
    plain: Any = value.item() if isinstance(value, np.generic) else value
    if isinstance(plain, tuple):
        plain = list(plain)
    try:
        text: str = yaml.safe_dump(plain, default_flow_style=True, width=1 << 20)
    except yaml.YAMLError:
        raise InvalidInputError(f"A setting must be a plain value; got {value!r}.") from None
    return text.removesuffix("\n").removesuffix("\n...")
