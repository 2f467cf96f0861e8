"""Configuration: two frozen dataclasses, one YAML file, `--set section.key=value` over file over default."""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from edgesparse_runtime.errors import InputError

TASKS = ("classification", "regression", "forecasting")
MOST_THREADS, LARGEST_BLOCK = 1024, 1024
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
        layers: transformer layers.
        num_heads: attention heads a layer; must divide `width`.
        patch: steps a token; None = chosen from the training windows' typical length.
        filters: fixed filters per dilation in the filter bank (at most 84).
        dilations: of the bank's kernels, in steps; those that stretch a kernel over more than half of a
            typical training window are left out.
        thresholds: a kernel; the bank yields len(dilations) * kernels * thresholds features.
        attention: "sparse" or "dense".
        block_size: tokens a block; None = chosen from the training windows' length.
        window: blocks on each side that are always attended to; 0 = the diagonal block only.
        summaries: dropped blocks take part as one summary token each.
        value_filter: size of the convolution over values; 0 = none.
        dropout: in the layers; the head has twice as much.
        causal: a token's score depends on steps up to its own only (docs/training.md).
    """

    width: int = 64
    layers: int = 2
    num_heads: int = 4
    patch: int | None = None
    filters: int = 28
    dilations: tuple[int, ...] = (1, 4, 16, 64)
    thresholds: int = 4
    attention: Literal["sparse", "dense"] = "sparse"
    block_size: int | None = None
    window: int = 0
    summaries: bool = True
    value_filter: int = 5
    dropout: float = 0.1
    causal: bool = False

    def __post_init__(self) -> None:
        for name in ("width", "layers", "num_heads", "filters", "thresholds"):
            _at_least(name, getattr(self, name), 1)
        if self.width % self.num_heads:
            raise InputError(f"`num_heads` must divide `width` ({self.width}); got {self.num_heads}.")
        if self.filters > 84:
            raise InputError(f"`filters` must be at most 84; got {self.filters}.")
        if not self.dilations or any(d < 1 for d in self.dilations):
            raise InputError(f"`dilations` must be whole numbers from 1 on; got {list(self.dilations)}.")
        if self.attention not in ("sparse", "dense"):
            raise InputError(f"`attention` must be sparse or dense; got {self.attention}.")
        for name in ("patch", "block_size"):
            if getattr(self, name) is not None:
                _at_least(name, getattr(self, name), 1)
        if self.block_size is not None and self.block_size > LARGEST_BLOCK:
            raise InputError(f"`block_size` must be at most {LARGEST_BLOCK}; got {self.block_size}. Use 64.")
        _at_least("window", self.window, 0)
        if self.value_filter < 0 or (self.value_filter and self.value_filter % 2 == 0):
            raise InputError(f"`value_filter` must be odd or 0; got {self.value_filter}. Use 5.")
        _share("dropout", self.dropout, below=0.5)


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
            (noise, drift, gaps, uneven speed, coarse sampling; docs/training.md).
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

    task: Literal["classification", "regression", "forecasting"] = "classification"
    horizon: int | None = None
    target: str = ""
    budget: float = 0.3
    epochs: int | None = None
    min_steps: int = 480
    max_steps: int = 4000
    batch_size: int = 16
    learning_rate: float = 2e-3
    weight_decay: float = 0.05
    label_smoothing: float = 0.1
    shift: float = 0.125
    augment: float = 0.1
    average_decay: float = 0.99
    router_weight: float = 0.1
    auxiliary_weight: float = 0.0
    auxiliary_share: float = 0.3
    consistency_weight: float = 0.0
    consistency_interval: int = 4
    dense_share: float = 0.15
    anneal_share: float = 0.34
    validation_share: float | None = None
    patience: int = 0
    temperature: Literal["held-out", "cross-fitted", "none"] = "held-out"
    balance_classes: bool = True
    rule: Literal["top_p", "top_k"] = "top_p"
    seed: int = 0
    threads: int | None = None

    def __post_init__(self) -> None:
        if self.task not in TASKS:
            raise InputError(f"`task` must be classification, regression or forecasting; got {self.task}.")
        if self.task == "forecasting" and self.horizon is None:
            raise InputError("`horizon` must be given for forecasting: how many steps to predict.")
        if self.task != "forecasting" and self.horizon is not None:
            raise InputError(f"`horizon` is for forecasting only; got {self.horizon} for {self.task}.")
        if self.rule not in ("top_p", "top_k"):
            raise InputError(f"`rule` must be top_p or top_k; got {self.rule}.")
        if self.temperature not in ("held-out", "cross-fitted", "none"):
            raise InputError(f"`temperature` must be held-out, cross-fitted or none; got {self.temperature}.")
        for name in (
            "learning_rate",
            "weight_decay",
            "router_weight",
            "auxiliary_weight",
            "consistency_weight",
        ):
            if not math.isfinite(getattr(self, name)):
                raise InputError(f"`{name}` must be finite; got {getattr(self, name)}.")
        if not 0 <= self.seed < 2**32:
            raise InputError(f"`seed` must be at least 0 and below 4294967296; got {self.seed}.")
        if self.threads is not None and self.threads > MOST_THREADS:
            raise InputError(f"`threads` must be at most {MOST_THREADS}; got {self.threads}.")
        for name in ("weight_decay", "router_weight", "auxiliary_weight", "consistency_weight"):
            if getattr(self, name) < 0:
                raise InputError(f"`{name}` must be at least 0; got {getattr(self, name)}.")
        if not 0 < self.auxiliary_share < 1:
            raise InputError(f"`auxiliary_share` must be above 0 and below 1; got {self.auxiliary_share}.")
        _at_least("consistency_interval", self.consistency_interval, 1)
        if not 0 < self.budget <= 1:
            raise InputError(f"`budget` must be above 0 and at most 1; got {self.budget}. Use 0.3.")
        for name in ("epochs", "threads", "horizon"):
            if getattr(self, name) is not None:
                _at_least(name, getattr(self, name), 1)
        for name in ("min_steps", "max_steps", "batch_size"):
            _at_least(name, getattr(self, name), 1)
        if self.learning_rate <= 0:
            raise InputError(f"`learning_rate` must be above 0; got {self.learning_rate}.")
        _at_least("patience", self.patience, 0)
        for name in ("label_smoothing", "average_decay"):
            _share(name, getattr(self, name), below=1.0)
        _share("shift", self.shift, below=0.500001)
        _share("augment", self.augment, below=1.0)
        if self.validation_share is not None:
            _share("validation_share", self.validation_share, below=0.9)
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


def _at_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise InputError(f"`{name}` must be at least {least}; got {value}.")


def _share(name: str, value: float, *, below: float) -> None:
    if not 0 <= value < below:
        raise InputError(f"`{name}` must be at least 0 and below {below:g}; got {value}.")
