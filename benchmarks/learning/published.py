"""Published accuracies of other classifiers, read at run time from the installed aeon package (never copied).

Column 0 of its files is the archive's own split, which is the one that we test on.
"""

from __future__ import annotations

import csv
import importlib.util
from functools import cache
from pathlib import Path

CLASSIFIERS = ("InceptionTime", "HC2")


@cache
def published(classifier: str) -> dict[str, float]:
    """Accuracy a set; nothing where aeon is not installed."""
    spec = importlib.util.find_spec("aeon")
    if spec is None or spec.origin is None:
        return {}
    folder = Path(spec.origin).parent / "testing/example_results_files/classification/accuracy"
    file = folder / f"{classifier}_accuracy.csv"
    if not file.exists():
        return {}
    with file.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.reader(stream))
    return {row[0]: float(row[1]) for row in rows[1:] if len(row) > 1}
