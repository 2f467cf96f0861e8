"""The public surface of the training and export parts: what `__all__` lists, and nothing missing."""

from __future__ import annotations

import importlib
from types import ModuleType

import pytest


@pytest.mark.parametrize("name", ["edgesparse", "edgesparse_export"])
def test_what_is_listed_exists(name: str) -> None:
    module = importlib.import_module(name)
    assert sorted(module.__all__) == sorted(set(module.__all__))
    for entry in module.__all__:
        value = getattr(module, entry)
        assert not isinstance(value, ModuleType), entry
