"""What each fold of a cross-validation measured, stored as it finishes: a stopped one resumes after it.

```
RUN/cross-validation.json   until the run is finished; other settings or data start a new one
```
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgesparse.config import RunConfig
from edgesparse.training.data import fingerprint
from edgesparse_runtime.bundle.atomic import replace_text
from edgesparse_runtime.data.series_set import SeriesSet
from edgesparse_runtime.errors import InputError

FILE_NAME = "cross-validation.json"
Values = npt.NDArray[np.float64]


class StoredFolds:
    """Values of each series by fold.

    Args:
        folder: the run folder; None = nothing is stored.
        resume: use what is stored there.

    Raises:
        InputError: stored for another configuration or other data, or damaged.
    """

    def __init__(self, folder: Path | None, data: SeriesSet, config: RunConfig, *, resume: bool) -> None:
        self._path = None if folder is None else folder / FILE_NAME
        self._started_with: dict[str, Any] = {"settings": config.to_dict(), "data": fingerprint(data)}
        self._folds: dict[str, list[float]] = {}
        if resume and self._path is not None and self._path.exists():
            self._folds = self._read(self._path)

    def get(self, fold: int, count: int) -> Values | None:
        """The values of a fold of `count` series; None = not measured yet."""
        found = self._folds.get(str(fold))
        return None if found is None or len(found) != count else np.array(found, dtype=np.float64)

    def put(self, fold: int, values: Values) -> None:
        self._folds[str(fold)] = values.tolist()
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            record = {"started_with": self._started_with, "folds": self._folds}
            replace_text(self._path, json.dumps(record) + "\n")

    def _read(self, path: Path) -> dict[str, list[float]]:
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            started_with, folds = record["started_with"], record["folds"]
            stored = {str(k): [float(x) for x in values] for k, values in folds.items()}
        except (ValueError, KeyError, TypeError, AttributeError):
            raise InputError(f"{path} is damaged. Delete it; the folds are then measured again.") from None
        if started_with != json.loads(json.dumps(self._started_with)):
            raise InputError(
                f"{path} was started with another configuration or other data. "
                "Resume with the same configuration and data, or add --overwrite in place of --resume."
            )
        return stored
