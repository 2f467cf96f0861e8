"""Where the sets lie: in packages, read where installed, never copied, nothing downloaded."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from benchmarks.learning.data import MissingPackage

# Of the groups of a set (car parks, pages, weeks, months), those that are tested.
TESTED_SHARE = 1 / 3


def package_folder(package: str) -> Path:
    """The folder of an installed package, which is not imported.

    Raises:
        MissingPackage: it is not installed.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise MissingPackage(f"needs the package {package} (see `make prove-learning`)")
    return Path(spec.origin).parent


def read_table(package: str, path: str) -> pd.DataFrame:
    """A table in a package's folder."""
    return pd.read_csv(package_folder(package) / path, low_memory=False)


def tested_groups(groups: Iterable[object]) -> set[str]:
    """The third of the groups whose names have the smallest SHA-256: no model is trained on them."""
    names = sorted({str(group) for group in groups}, key=lambda x: hashlib.sha256(x.encode()).hexdigest())
    return set(names[: max(1, round(TESTED_SHARE * len(names)))])
