"""Sizes that serve most data. A preset is a function, so that nobody changes one by accident."""

from __future__ import annotations

from collections.abc import Callable

from edgesparse.config import ModelConfig


def tiny() -> ModelConfig:
    """About 100 thousand weights: some hundred labels, or a small board."""
    return ModelConfig()


def small() -> ModelConfig:
    """About 600 thousand weights: thousands of labels, long windows."""
    return ModelConfig(width=128, layers=4, num_heads=4, patch=4)


def base() -> ModelConfig:
    """About 3 million weights: tens of thousands of labels."""
    return ModelConfig(width=256, layers=6, num_heads=8, patch=4, filters=84)


PRESETS: dict[str, Callable[[], ModelConfig]] = {"tiny": tiny, "small": small, "base": base}
