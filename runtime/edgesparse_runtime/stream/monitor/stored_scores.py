"""Scores that `edgesparse run --follow` stored, read back for the monitor."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np

from edgesparse_runtime.arrays import FloatArray
from edgesparse_runtime.bundle.regular_file import open_regular
from edgesparse_runtime.errors import InputError

# Of the lines that `stream/write.py` writes.
SCHEMA = "edgesparse.stream/1"
_LONGEST_LINE = 1 << 20


class StoredScore(NamedTuple):
    """One score line."""

    values: FloatArray
    time: float | str
    machine: str
    faults: tuple[str, ...]


def are_stored_scores(path: Path) -> bool:
    """Does a file begin with a line of a stream's scores?"""
    with open_regular(path) as stream:
        first = stream.read(_LONGEST_LINE).partition(b"\n")[0]
    try:
        stored = json.loads(first)
    except (ValueError, RecursionError):
        return False
    return isinstance(stored, dict) and stored.get("schema") == SCHEMA


def read_stored_scores(path: Path, classes: tuple[str, ...]) -> list[StoredScore]:
    """The scores of a file, in its order; a last line that was cut is left out.

    Raises:
        InputError: a line is none, or has other scores than the model.
    """
    found: list[StoredScore] = []
    with open_regular(path) as stream:
        lines = stream.read().split(b"\n")
    for number, line in enumerate(lines, 1):
        if not line or (number == len(lines) and not line.endswith(b"}")):
            continue
        try:
            stored = json.loads(line)
            if stored["event"] != "score":
                continue
            scores = stored["scores"]
            if classes and len(scores) != len(classes):
                raise ValueError("it has other classes than the model")
            values = np.array([float(value) for value in scores.values()], dtype=np.float32)
            faults = tuple(str(fault) for fault in stored.get("faults", ()))
            found.append(StoredScore(values, stored["time"], str(stored.get("machine", "")), faults))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise InputError(f"{path}: line {number} must be a score of `run --follow`; {error}.") from None
    return found
