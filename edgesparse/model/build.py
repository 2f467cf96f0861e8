"""From a configuration and the facts of a data set to an untrained model."""

from __future__ import annotations

from edgesparse.config import ModelConfig, RunConfig
from edgesparse.model.data_facts import DataFacts
from edgesparse.model.forecaster import Forecaster
from edgesparse.model.transformer import SequenceTransformer

# Most recent steps that a forecaster's linear part sees.
MOST_RECENT = 256


def build_model(config: RunConfig, facts: DataFacts) -> SequenceTransformer:
    """An untrained model that fits the data."""
    if config.training.task == "forecasting":
        return build_forecaster(config.model, facts)
    return SequenceTransformer(
        config.model,
        channels=len(facts.channels),
        outputs=len(facts.classes) or 1,
        variable_length=facts.variable_length,
    )


def build_forecaster(config: ModelConfig, facts: DataFacts) -> Forecaster:
    """An untrained forecaster that fits the data."""
    return Forecaster(
        config,
        channels=len(facts.channels),
        horizon=facts.horizon,
        target=facts.channels.index(facts.target_channel),
        recent=min(facts.shortest, MOST_RECENT),
        center=facts.target_center,
        scale=facts.target_scale,
        variable_length=facts.variable_length,
    )
