"""Measured cases on disk: a benchmark that was stopped goes on where it was.

A case is found again only when nothing that could change its figure has changed: the sources, the machine,
the versions and the case itself are in its key.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any


def hash_files(paths: Iterable[Path]) -> str:
    """Changes with every byte of the files; their order does not matter."""
    digest = hashlib.sha256()
    for path in sorted(paths):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


class StoredCases:
    """One JSON file a case in `folder`, named by the case and a hash of everything that matters."""

    def __init__(self, folder: Path, *facts: object) -> None:
        self._folder = folder
        self._facts = facts
        folder.mkdir(parents=True, exist_ok=True)

    def path(self, name: str) -> Path:
        """Where the case is stored, measured or not."""
        key = hashlib.sha256(json.dumps([*self._facts, name], sort_keys=True).encode()).hexdigest()[:16]
        return self._folder / f"{name}-{key}.json"

    def __contains__(self, name: str) -> bool:
        return self.path(name).exists()

    def get(self, name: str, measure: Callable[[], Any]) -> Any:
        """The stored figures of the case, or new ones, stored as soon as they are there."""
        path = self.path(name)
        if not path.exists():
            # A file that is there is whole: it gets its name last.
            unfinished = path.with_suffix(".unfinished")
            unfinished.write_text(json.dumps(measure(), indent=1) + "\n")
            unfinished.replace(path)
        return json.loads(path.read_text())
