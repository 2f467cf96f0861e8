"""The public surface: only names in a package's `__init__` are public, and `__all__` is exactly those."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path
from types import ModuleType

import pytest

PACKAGES = ["edgesparse", "edgesparse_export", "edgesparse_runtime"]


@pytest.mark.parametrize("name", PACKAGES)
def test_all_lists_every_public_name_once_and_nothing_else(name: str) -> None:
    module = importlib.import_module(name)
    listed: list[str] = module.__all__
    assert sorted(listed) == sorted(set(listed))
    present = {
        entry
        for entry, value in vars(module).items()
        if not entry.startswith("_") and not isinstance(value, ModuleType) and entry not in IMPLICIT
    }
    assert present <= set(listed)
    for entry in listed:
        assert not isinstance(getattr(module, entry), ModuleType), entry


IMPLICIT = {"annotations", "TYPE_CHECKING", "Any"}
"""Names that a module's own code needs and nobody imports from it."""


@pytest.mark.parametrize("name", PACKAGES)
def test_what_is_re_exported_is_listed(name: str) -> None:
    """Read from the text, so that a name that loads when first used counts too."""
    module = importlib.import_module(name)
    assert module.__file__ is not None
    tree = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
    exported = {
        alias.asname
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.asname
    }
    assert exported == set(module.__all__)
