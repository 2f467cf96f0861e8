"""Configuration: what wins, and what is refused."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from edgesparse.config import (
    ModelConfig,
    RunConfig,
    TrainingConfig,
    config_from_dict,
    is_same_config,
    resolve_config,
)
from edgesparse.dropin.config import DropinConfig
from edgesparse.presets import PRESETS
from edgesparse_runtime.errors import InputError


def test_set_wins_over_file_over_default(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("training:\n  epochs: 7\n  seed: 3\nmodel:\n  dilations: [1, 2]\n")
    config = resolve_config(RunConfig(), file, ["training.epochs=9"])
    assert (config.training.epochs, config.training.seed, config.model.dilations) == (9, 3, (1, 2))
    assert config.training.budget == RunConfig().training.budget


@pytest.mark.parametrize("name", PRESETS)
def test_configuration_survives_its_file(name: str) -> None:
    config = RunConfig(model=PRESETS[name]())
    assert config_from_dict(config.to_dict()) == config


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.epoch=3", "unknown training key `epoch`. Did you mean `epochs`?"),
        ("trainig.epochs=3", "unknown section `trainig`. Did you mean `training`?"),
        ("epochs=3", "--set must be section.key=value"),
        ("training.learning_rate=.inf", "`learning_rate` must be finite; got inf."),
        ("training.router_weight=.nan", "`router_weight` must be finite; got nan."),
        ("training.weight_decay=-1", "`weight_decay` must be at least 0; got -1.0."),
        ("training.seed=-1", "`seed` must be at least 0 and below 4294967296; got -1."),
        ("training.threads=1000000", "`threads` must be at most 1024; got 1000000."),
        ("model.block_size=5000", "`block_size` must be at most 1024; got 5000."),
        ("model.dilations=4", "`dilations` must be a tuple; got 4."),
        ("training.epochs=many", "`epochs` must be a number; got 'many'."),
        ("training.budget=0", "`budget` must be above 0 and at most 1; got 0.0."),
        ("model.width=30", "`num_heads` must divide `width` (30); got 4."),
        ("model.filters=85", "`filters` must be at most 84; got 85."),
        ("model.summaries=3", "`summaries` must be a bool; got 3."),
        ("model.value_filter=4", "`value_filter` must be odd or 0; got 4."),
        ("model.width=0", "`width` must be at least 1; got 0."),
        ("model.width=null", "`width` must be at least 1; got None."),
        ("training.rule=null", "`rule` must be top_p or top_k; got None."),
        ("model.block_size=0", "`block_size` must be at least 1; got 0."),
        ("model.dilations=[1, 0]", "`dilations` must be whole numbers from 1 on; got [1, 0]."),
        ("model.dilations=[]", "`dilations` must be whole numbers from 1 on; got []."),
        ("model.attention=none", "`attention` must be sparse or dense; got none."),
        ("model.dropout=0.5", "`dropout` must be at least 0 and below 0.5; got 0.5."),
        ("training.learning_rate=0", "`learning_rate` must be above 0; got 0.0."),
        ("training.auxiliary_share=1", "`auxiliary_share` must be above 0 and below 1; got 1.0."),
        ("training.label_smoothing=.nan", "`label_smoothing` must be at least 0 and below 1; got nan."),
        ("training.validation_share=0.9", "`validation_share` must be at least 0 and below 0.9; got 0.9."),
        ("training.anneal_share=0.1", "`dense_share` must be at most `anneal_share`; got 0.15 and 0.1."),
        ("training.temperature=hot", "`temperature` must be held-out, cross-fitted or none; got hot."),
        ("training.task=guessing", "`task` must be classification, regression or forecasting; got guessing."),
    ],
)
def test_bad_values_are_refused(override: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        resolve_config(RunConfig(), None, [override])
    assert message in str(caught.value)


@pytest.mark.parametrize("kind", [ModelConfig, TrainingConfig, DropinConfig])
def test_every_number_and_every_choice_has_bounds_that_its_default_meets(kind: type) -> None:
    """The two that bound each other are checked together; yes and no need none."""
    config = kind()
    for entry in fields(kind):
        default, bounds = getattr(config, entry.name), entry.metadata.get("bounds", ())
        is_free = "bool" in str(entry.type) or entry.name in {"target", "dense_share", "anneal_share"}
        assert is_free != bool(bounds), entry.name
        assert default is None or all(bound.holds(default) for bound in bounds), entry.name


def test_a_broken_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("training: [")
    with pytest.raises(InputError, match="must be YAML"):
        resolve_config(RunConfig(), file)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.dropout=0.1", "`dropout` is a key of `model`, not of `training`"),
        ("training.task=forecasting", "how many steps to predict"),
        ("training.horizon=4", "`horizon` is for forecasting only; got 4 for classification"),
    ],
)
def test_a_key_in_the_wrong_place_says_where_it_belongs(override: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        resolve_config(RunConfig(), None, [override])


def test_settings_that_an_older_version_did_not_know_have_their_defaults() -> None:
    now = RunConfig().to_dict()
    older = {section: dict(values) for section, values in now.items()}
    del older["model"]["stem"]
    assert is_same_config(older, now)
    assert not is_same_config(older, now | {"model": now["model"] | {"stem": 2}})
    assert not is_same_config(now | {"training": now["training"] | {"epochs": 1}}, now)
    assert not is_same_config(now | {"model": now["model"] | {"unknown": 1}}, now)
