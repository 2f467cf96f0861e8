"""`Reference`: what the signals of a line in order are like; learned once, then compared with."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgesparse_runtime.arrays import DoubleArray
from edgesparse_runtime.errors import InputError
from edgesparse_runtime.stream.monitor.blocks import MOST_TOLERANCE, Blocks, measure_blocks
from edgesparse_runtime.stream.monitor.sketch import POINTS, ranks, sketch

SCHEMA = "edgesparse.monitor/1"
# Name of the reference inside a bundle.
FILE = "monitor.json"
# What may tell windows apart that are in order in different ways.
CONTEXTS = ("hour", "group")
# Windows of a context that make a sketch of its own; those of a smaller one are compared with all.
FEWEST_IN_CONTEXT = 256
_MOST_CONTEXTS = 64
_LARGEST = 16 << 20


@dataclass(frozen=True)
class Learned:
    """Facts of the windows that a reference was learned from.

    Attributes:
        windows: how many.
        overlap: window over stride: so many windows share a step.
        seconds_per_window: from one window to the next; None = unknown.
        source: where they came from, for people.
    """

    windows: int
    overlap: int = 1
    seconds_per_window: float | None = None
    source: str = ""


@dataclass(frozen=True)
class Reference:
    """What a line in order is like.

    Attributes:
        signals: their names.
        sketches: by context [signals, 64]; "" = all windows.
        context: what tells contexts apart: "", "hour" or "group".
        blocks: how ranks are averaged.
        learned: from what.
    """

    signals: tuple[str, ...]
    sketches: dict[str, DoubleArray]
    context: str
    blocks: Blocks
    learned: Learned

    def ranks(self, values_NS: DoubleArray, contexts: Sequence[str] | None = None) -> DoubleArray:
        """The rank of each value among those of its own context, from 0 to 1."""
        if contexts is None or len(self.sketches) == 1:
            return ranks(self.sketches[""], values_NS)
        found = np.empty(values_NS.shape)
        names = np.array([name if name in self.sketches else "" for name in contexts])
        for name in np.unique(names):
            found[names == name] = ranks(self.sketches[str(name)], values_NS[names == name])
        return found

    @property
    def sha256(self) -> str:
        """Identifies it: evidence against one reference says nothing of another."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def to_json(self) -> str:
        """As a file of a bundle, or of its own."""
        learned = self.learned
        content = {
            "schema": SCHEMA,
            "signals": list(self.signals),
            "context": self.context,
            "windows": learned.windows,
            "overlap": learned.overlap,
            "seconds_per_window": learned.seconds_per_window,
            "source": learned.source,
            "block": self.blocks.windows,
            "blocks": self.blocks.count,
            "tolerance": [round(t, 6) for t in self.blocks.tolerance.tolist()],
            "sketches": {name: _to_lists(points) for name, points in self.sketches.items()},
        }
        return json.dumps(content) + "\n"


def learn(
    names: Sequence[str],
    values_NS: DoubleArray,
    learned: Learned,
    *,
    context: str = "",
    contexts: Sequence[str] | None = None,
    groups: npt.NDArray[np.str_] | None = None,
) -> Reference:
    """A reference of windows in order, given in the order of time.

    Args:
        values_NS: their signals; NaN = missing.
        context: what `contexts` are, "hour" or "group".
        contexts: of each window.
        groups: machine of each window; a new machine may differ as these do among themselves.

    Raises:
        InputError: no window.
    """
    if not len(values_NS):
        raise InputError(
            "A reference must be learned from at least one window without a fault; there is none."
        )
    sketches = {"": sketch(values_NS)}
    if contexts is not None:
        found, counts = np.unique(np.array(contexts), return_counts=True)
        for name in found[counts >= FEWEST_IN_CONTEXT][:_MOST_CONTEXTS].tolist():
            sketches[name] = sketch(values_NS[np.array(contexts) == name])
    # Measured on the numbers that are stored.
    kept = {name: np.round(points, 9) for name, points in sketches.items()}
    nothing = Blocks(1, 0, np.zeros(len(names)))
    first = Reference(tuple(names), kept, context if contexts is not None else "", nothing, learned)
    own = None if contexts is not None and context == "group" else groups
    blocks = measure_blocks(first.ranks(values_NS, contexts), learned.overlap, own)
    rounded = Blocks(blocks.windows, blocks.count, np.round(blocks.tolerance, 6))
    return Reference(first.signals, kept, first.context, rounded, learned)


def parse_reference(content: bytes, where: str) -> Reference:
    """Read a reference.

    Raises:
        InputError: it is none, or damaged.
    """
    if len(content) > _LARGEST:
        raise InputError(f"{where}: a reference must have at most {_LARGEST >> 20} MB.")
    try:
        stored = json.loads(content.decode("utf-8"))
        if not isinstance(stored, dict) or stored.get("schema") != SCHEMA:
            raise ValueError(f"its schema is not {SCHEMA}")
        return _from_dict(stored)
    except (ValueError, KeyError, TypeError, RecursionError, OverflowError) as error:
        raise InputError(
            f"{where} must be a reference of `edgesparse monitor learn`; {error}. Learn it again."
        ) from None


def _from_dict(stored: dict[str, Any]) -> Reference:
    names = tuple(str(name) for name in stored["signals"])
    sketches = {str(name): _from_lists(rows) for name, rows in stored["sketches"].items()}
    tolerance = np.array(stored["tolerance"], dtype=np.float64)
    if "" not in sketches or any(points.shape != (len(names), POINTS) for points in sketches.values()):
        raise ValueError(f"a sketch must have {POINTS} points per signal")
    if tolerance.shape != (len(names),) or not ((tolerance >= 0) & (tolerance <= MOST_TOLERANCE)).all():
        raise ValueError(f"a tolerance must be 0 to {MOST_TOLERANCE} per signal")
    seconds = stored["seconds_per_window"]
    if seconds is not None and not (math.isfinite(float(seconds)) and float(seconds) > 0):
        raise ValueError("seconds_per_window must be above 0")
    block, count, windows, overlap = (int(stored[k]) for k in ("block", "blocks", "windows", "overlap"))
    if min(block, windows, overlap) < 1 or count < 0:
        raise ValueError("block, windows and overlap must be at least 1")
    learned = Learned(windows, overlap, None if seconds is None else float(seconds), str(stored["source"]))
    context = str(stored["context"])
    if context not in ("", *CONTEXTS):
        raise ValueError(f"context must be {' or '.join(CONTEXTS)}")
    return Reference(names, sketches, context, Blocks(block, count, tolerance), learned)


def _to_lists(points: DoubleArray) -> list[list[float] | None]:
    return [None if np.isnan(row).any() else row.tolist() for row in points]


def _from_lists(rows: list[list[float] | None]) -> DoubleArray:
    found = np.array([[np.nan] * POINTS if row is None else row for row in rows], dtype=np.float64)
    if found.ndim == 2 and bool((np.diff(found, axis=1) < 0).any()):
        raise ValueError("a sketch must rise")
    return found
