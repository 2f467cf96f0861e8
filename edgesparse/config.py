"""Configuration: two frozen dataclasses, one YAML file, `--set section.key=value` over file over default."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from edgesparse.bounds import (
    FINITE,
    Bound,
    above,
    at_least,
    at_most,
    below,
    both,
    bounded,
    check_bounds,
    one_of,
)
from edgesparse_runtime.errors import InputError

TASKS = ("classification", "regression", "forecasting")
MOST_THREADS, LARGEST_BLOCK = 1024, 1024
SHARE = both(at_least(0), below(1))
DILATIONS = Bound("whole numbers from 1 on", lambda value: bool(value) and min(value) >= 1)
ODD = Bound("odd and at least 1", lambda value: value > 0 and value % 2 == 1, "Use 5.")
VALUE_FILTER = Bound("odd or 0", lambda value: value == 0 or (value > 0 and value % 2 == 1), "Use 5.")
# Keys of run folders and files written before version 0.2, and what they are called now.
RENAMED_KEYS = {
    "model": {"kernels": "filters", "value_kernel": "value_filter"},
    "training": {
        "agreement_every": "consistency_interval",
        "agreement_weight": "consistency_weight",
        "calibrate": "temperature",
        "disturb": "augment",
        "steps_at_least": "min_steps",
        "steps_at_most": "max_steps",
    },
}


@dataclass(frozen=True)
class ModelConfig:
    """Shape of a `SequenceTransformer`.

    Attributes:
        width: size of a token.
        stem: edition of the fixed features: 1 = the filter bank, per token; 2 = with it a skip, a linear map
            of pooled features, fitted in closed form, that the transformer adds to (docs/guides/training.md).
            None = 1.
        layers: transformer layers; 0 = the skip alone, which is `stem` 2.
        num_heads: attention heads a layer; must divide `width`.
        patch: steps a token; None = chosen from the training windows' typical length.
        filters: fixed filters per dilation in the filter bank (at most 84); None = 28, or 84 for short
            windows of a model without layers.
        competing_groups: groups of competing filters per dilation in the skip; None = 16, or 64 likewise.
        dilations: of the bank's kernels, in steps; those that stretch a kernel over more than half of a
            typical training window are left out.
        thresholds: a kernel; the bank yields len(dilations) * kernels * thresholds features.
        attention: "sparse" or "dense".
        block_size: tokens a block; None = chosen from the training windows' length.
        window: blocks on each side that are always attended to; 0 = the diagonal block only.
        summaries: dropped blocks take part as one summary token each.
        value_filter: size of the convolution over values; 0 = none.
        dropout: in the layers; the head has twice as much.
        causal: a token's score depends on steps up to its own only (docs/guides/training.md).
        stretched: steps that windows of unequal length are stretched to, by a model without layers; 0 = none,
            None = chosen by leave-one-out.
        fixed_scale: windows are normalized by mean and spread of the training windows instead of their own,
            in a model without layers; None = chosen likewise.
        smoothed: steps that the skip's differences are averaged over; None = 5, or chosen likewise.
    """

    width: int = bounded(64, at_least(1))
    stem: int | None = bounded(None, at_least(1), at_most(2, "Use 2."))
    layers: int = bounded(2, at_least(0))
    num_heads: int = bounded(4, at_least(1))
    patch: int | None = bounded(None, at_least(1))
    filters: int | None = bounded(None, at_least(1), at_most(84))
    competing_groups: int | None = bounded(None, at_least(1))
    dilations: tuple[int, ...] = bounded((1, 4, 16, 64), DILATIONS)
    thresholds: int = bounded(4, at_least(1))
    attention: Literal["sparse", "dense"] = bounded("sparse", one_of("sparse", "dense"))
    block_size: int | None = bounded(None, at_least(1), at_most(LARGEST_BLOCK, "Use 64."))
    window: int = bounded(0, at_least(0))
    summaries: bool = True
    value_filter: int = bounded(5, VALUE_FILTER)
    dropout: float = bounded(0.1, both(at_least(0), below(0.5)))
    causal: bool = False
    stretched: int | None = bounded(None, at_least(0))
    fixed_scale: bool | None = None
    smoothed: int | None = bounded(None, ODD)

    def __post_init__(self) -> None:
        check_bounds(self)
        if self.width % self.num_heads:
            raise InputError(f"`num_heads` must divide `width` ({self.width}); got {self.num_heads}.")
        if self.causal and self.has_skip:
            raise InputError(
                "`causal` must be false with the skip (`stem` 2 or no layers): its features are of the whole "
                "window. Use model.stem=1 with one layer or more."
            )
        for name in ("stretched", "fixed_scale"):
            if self.layers and getattr(self, name):
                raise InputError(
                    f"`{name}` needs a model without layers; there are {self.layers}. Use model.layers=0."
                )
        if self.layers == 0 and self.stem == 1:
            raise InputError("`layers` must be at least 1 with `stem` 1; got 0. Use model.stem=2.")

    @property
    def has_skip(self) -> bool:
        """The second edition of the stem, with its head."""
        return self.stem == 2 or self.layers == 0


@dataclass(frozen=True)
class TrainingConfig:
    """How a model is trained.

    Attributes:
        task: "classification", "regression" or "forecasting".
        horizon: forecasting: steps to predict, at the end of each training series.
        target: forecasting: the channel to predict; "" = the first.
        budget: share of dense attention's compute, router and summaries included (sparse attention only).
        epochs: passes over the training series; None = 40, within the two bounds that follow.
        min_steps: passes are added on a small set, which would end before it has learned.
        max_steps: passes are left out on a large set.
        batch_size: series a step.
        learning_rate: peak of the one-cycle schedule.
        weight_decay: of AdamW.
        label_smoothing: share of the target spread over all classes.
        shift: largest circular shift of a training window, as a share of its length.
        augment: share of a classifier's training windows that are augmented, once attention is at its budget
            (noise, drift, gaps, uneven speed, coarse sampling; docs/guides/training.md).
        rule: what a budget is kept with: "top_p", the same share of the router's mass for every query block,
            or "top_k", the same number of blocks (docs/benchmarks.md compares them).
        average_decay: of the running average of the weights that is kept in the end.
        router_weight: of the router's loss.
        auxiliary_weight: of the long-range task, which reconstructs masked spans; 0 = off. Each step then
            costs two forward passes.
        auxiliary_share: of a window's tokens that it hides.
        consistency_weight: of the divergence from the dense model's scores; 0 = off.
        consistency_interval: steps between two of its dense passes.
        dense_share: share of the steps before attention turns sparse.
        anneal_share: share of the steps by which the budget is reached.
        validation_share: share of series in the validation split; None = 0.1 from 1,000 series on, else 0.
        patience: epochs without a better validation metric before training stops; 0 = never.
        temperature: what the scores' temperature is fitted on: "held-out" series, where there are any;
            "cross-fitted" ones (trains four more times); or "none".
        balance_classes: weigh classes by the root of their rarity.
        seed: of everything random.
        threads: of torch; None = its own choice.
    """

    task: Literal["classification", "regression", "forecasting"] = bounded("classification", one_of(*TASKS))
    horizon: int | None = bounded(None, at_least(1))
    target: str = ""
    budget: float = bounded(0.3, both(above(0), at_most(1), "Use 0.3."))
    epochs: int | None = bounded(None, at_least(1))
    min_steps: int = bounded(480, at_least(1))
    max_steps: int = bounded(4000, at_least(1))
    batch_size: int = bounded(16, at_least(1))
    learning_rate: float = bounded(2e-3, FINITE, above(0))
    weight_decay: float = bounded(0.05, FINITE, at_least(0))
    label_smoothing: float = bounded(0.1, SHARE)
    shift: float = bounded(0.125, both(at_least(0), below(0.500001)))
    augment: float = bounded(0.1, SHARE)
    average_decay: float = bounded(0.99, SHARE)
    router_weight: float = bounded(0.1, FINITE, at_least(0))
    auxiliary_weight: float = bounded(0.0, FINITE, at_least(0))
    auxiliary_share: float = bounded(0.3, both(above(0), below(1)))
    consistency_weight: float = bounded(0.0, FINITE, at_least(0))
    consistency_interval: int = bounded(4, at_least(1))
    dense_share: float = 0.15
    anneal_share: float = 0.34
    validation_share: float | None = bounded(None, both(at_least(0), below(0.9)))
    patience: int = bounded(0, at_least(0))
    temperature: Literal["held-out", "cross-fitted", "none"] = bounded(
        "held-out", one_of("held-out", "cross-fitted", "none")
    )
    balance_classes: bool = True
    rule: Literal["top_p", "top_k"] = bounded("top_p", one_of("top_p", "top_k"))
    seed: int = bounded(0, both(at_least(0), below(2**32)))
    threads: int | None = bounded(None, at_least(1), at_most(MOST_THREADS))

    def __post_init__(self) -> None:
        check_bounds(self)
        if self.task == "forecasting" and self.horizon is None:
            raise InputError("`horizon` must be given for forecasting: how many steps to predict.")
        if self.task != "forecasting" and self.horizon is not None:
            raise InputError(f"`horizon` is for forecasting only; got {self.horizon} for {self.task}.")
        if not 0 <= self.dense_share <= self.anneal_share <= 1:
            raise InputError(
                f"`dense_share` must be at most `anneal_share`; "
                f"got {self.dense_share} and {self.anneal_share}."
            )


@dataclass(frozen=True)
class RunConfig:
    """Everything that a run folder records."""

    model: ModelConfig = field(default_factory=ModelConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """As plain values, for YAML and JSON."""
        sections = dataclasses.asdict(self)
        sections["model"]["dilations"] = list(self.model.dilations)
        return sections


def resolve_config(base: RunConfig, file: Path | None = None, overrides: Iterable[str] = ()) -> RunConfig:
    """`overrides` ("training.epochs=10") over `file` (YAML) over `base`.

    Raises:
        InputError: an unknown key (the nearest known one is named) or a value that does not fit.
    """
    sections = base.to_dict()
    if file is not None:
        _update(sections, _load(file), str(file))
    for override in overrides:
        key, found, text = override.partition("=")
        section, dot, name = key.strip().partition(".")
        if not found or not dot:
            raise InputError(f"--set must be section.key=value; got {override!r}. Try training.epochs=10.")
        _update(sections, {section: {name: yaml.safe_load(text)}}, "--set")
    return config_from_dict(sections)


def config_from_dict(sections: Mapping[str, Mapping[str, Any]]) -> RunConfig:
    """The configuration that `RunConfig.to_dict` wrote."""
    model = _with_new_names("model", sections["model"])
    if isinstance(model["dilations"], (list, tuple)):
        model["dilations"] = tuple(model["dilations"])
    return RunConfig(
        model=_build(ModelConfig, model),
        training=_build(TrainingConfig, _with_new_names("training", sections["training"])),
    )


def is_same_config(stored: Mapping[str, Mapping[str, Any]], now: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether two dictionaries of `RunConfig.to_dict` mean the same.

    Args:
        stored: perhaps by an older version: keys that it did not know have their defaults.
    """
    defaults = RunConfig().to_dict()
    return all(
        defaults[section] | _with_new_names(section, stored.get(section, {})) == values
        for section, values in now.items()
    )


def _load(file: Path) -> Mapping[str, Any]:
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{file}: no such file or folder.") from None
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise InputError(f"{file} must be YAML; {str(error).splitlines()[0]}.") from None
    if content is None:
        return {}
    if not isinstance(content, Mapping):
        raise InputError(f"{file} must hold the sections model and training.")
    return content


def _update(sections: dict[str, dict[str, Any]], changes: Mapping[str, Any], source: str) -> None:
    for section, values in changes.items():
        if section not in sections:
            raise InputError(_unknown("section", str(section), sections, source))
        if not isinstance(values, Mapping):
            raise InputError(f"{source}: section `{section}` must hold keys; got {values!r}.")
        for key, value in _with_new_names(section, values).items():
            if key not in sections[section]:
                home = next((name for name, known in sections.items() if key in known), None)
                if home is not None:
                    raise InputError(f"{source}: `{key}` is a key of `{home}`, not of `{section}`.")
                raise InputError(_unknown(f"{section} key", str(key), sections[section], source))
            sections[section][key] = value


def _with_new_names(section: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """The values by today's keys: what an older version wrote stays readable."""
    renamed = RENAMED_KEYS[section]
    return {renamed.get(key, key): value for key, value in values.items()}


def _unknown(kind: str, name: str, known: Iterable[str], source: str) -> str:
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.4)
    hint = f" Did you mean `{near[0]}`?" if near else f" Known are {', '.join(known)}."
    return f"{source}: unknown {kind} `{name}`.{hint}"


def _build(kind: type[Any], values: dict[str, Any]) -> Any:
    """The dataclass, with each value's type checked: YAML gives what was typed, not what was meant."""
    defaults = kind()
    for name, value in values.items():
        default = getattr(defaults, name)
        if default is None or value is None:
            fits = value is None or isinstance(value, (int, float))
        elif isinstance(default, bool) or isinstance(value, bool):
            fits = isinstance(default, bool) and isinstance(value, bool)
        elif isinstance(default, float):
            fits = isinstance(value, (int, float))
            values[name] = float(value) if fits else value
        elif isinstance(default, tuple):
            fits = isinstance(value, tuple) and all(isinstance(v, int) for v in value)
        else:
            fits = isinstance(value, type(default))
        if not fits:
            wanted = type(default).__name__ if default is not None else "number"
            raise InputError(f"`{name}` must be a {wanted}; got {value!r}.")
    return kind(**values)
