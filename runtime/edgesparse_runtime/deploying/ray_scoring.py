"""Batch scoring of many files through Ray Data: files are read and scored in parallel, rows come out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgesparse_runtime.data.for_model import read_for_model
from edgesparse_runtime.data.readers import ReadOptions
from edgesparse_runtime.errors import EdgeSparseError, InputError
from edgesparse_runtime.session import Session


class ScoreFiles:
    """One worker: a session, and the files that Ray hands it."""

    def __init__(self, bundle: str, precision: str, threads: int, options: ReadOptions) -> None:
        self._session = Session(bundle, precision=precision, threads=threads)
        self._options = options

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Rows of the files of a batch; a file that cannot be read gives one row that says why."""
        rows: list[dict[str, Any]] = []
        for file in batch["file"]:
            rows.extend(self._score(str(file)))
        keys = rows[0].keys() if rows else ()
        return {key: np.array([row[key] for row in rows], dtype=object) for key in keys}

    def _score(self, file: str) -> list[dict[str, Any]]:
        bundle = self._session.bundle
        assert bundle is not None
        empty = {"file": file, "series": 0, "decision": "", "scores": [], "error": ""}
        try:
            scores = self._session.predict(
                read_for_model(file, bundle.manifest, self._options, needs_labels=False)
            )
        except EdgeSparseError as error:
            return [empty | {"error": " ".join(str(error).split())}]
        classes = bundle.classes
        return [
            empty
            | {
                "series": i + 1,
                "decision": classes[int(row.argmax())] if classes else "",
                "scores": [float(s) for s in row],
            }
            for i, row in enumerate(scores)
        ]


def score_files(
    bundle: str,
    files: Sequence[Path],
    *,
    precision: str = "auto",
    workers: int = 2,
    threads: int = 1,
    options: ReadOptions | None = None,
) -> list[dict[str, Any]]:
    """Score every series of every file; rows in the order of `files` and of the series in them.

    Args:
        workers: processes that Ray keeps, on this machine or across a cluster.

    Raises:
        InputError: no files, or no workers.
        EdgeSparseError: the bundle does not open.
    """
    import ray
    import ray.data

    if not files or workers < 1:
        raise InputError("There must be at least one file and one worker.")
    # Here, where the error can be said in one line, and not in a worker.
    Session(bundle, precision=precision, threads=threads)
    items = [{"file": str(file.resolve()), "position": i} for i, file in enumerate(files)]
    found = (
        ray.data.from_items(items, override_num_blocks=min(len(items), 4 * workers))
        .map_batches(
            ScoreFiles,
            fn_constructor_args=(str(Path(bundle).resolve()), precision, threads, options or ReadOptions()),
            concurrency=workers,
            batch_size=1,
        )
        .take_all()
    )
    position = {str(file.resolve()): i for i, file in enumerate(files)}
    # Ray hands lists back as arrays.
    rows = [
        {**row, "series": int(row["series"]), "scores": [float(s) for s in row["scores"]]} for row in found
    ]
    return sorted(rows, key=lambda row: (position[row["file"]], row["series"]))
