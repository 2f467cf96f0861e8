"""Which files of a folder are recordings."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from edgesparse_runtime.errors import InputError

ENDINGS = (".csv", ".parquet", ".wav", ".npz", ".mat")
LABELS_TABLE = "labels.csv"
# What systems and programs leave beside files.
_USUAL = {"thumbs.db", "desktop.ini", "data.yaml"}


@dataclass(frozen=True)
class Listing:
    """Files of a folder, in the order of their names.

    Attributes:
        folder: that was listed.
        names: of the recordings, from the folder, with slashes.
        labels_table: `labels.csv` in the folder itself.
        other: names of files that are no recordings.
    """

    folder: Path
    names: tuple[str, ...]
    labels_table: Path | None
    other: tuple[str, ...]

    def path(self, index: int) -> Path:
        """Of a recording."""
        return self.folder / self.names[index]

    def note(self) -> str:
        """A word on files that are not read; "" where there are none."""
        if not self.other:
            return ""
        shown = ", ".join(self.other[:3]) + (", ..." if len(self.other) > 3 else "")
        return f"{self.folder}: {len(self.other)} file(s) are no recordings and are not read: {shown}."


def _is_made(folder: Path) -> bool:
    """Hidden, or a bundle or run of ours: results may lie beside the data."""
    return folder.name.startswith(".") or folder.suffix == ".edgesparse" or (folder / "run.json").exists()


def list_recordings(folder: Path) -> Listing:
    """The recordings below a folder; hidden files and folders are left out.

    Raises:
        InputError: there are none, or they are of several forms.
    """
    names: list[str] = []
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not _is_made(Path(place, name)))
        inside = Path(place).relative_to(folder)
        names += [(inside / name).as_posix() for name in files if not name.startswith((".", "~$"))]
    names.sort()
    has_table = LABELS_TABLE in names
    found = [n for n in names if n.lower().endswith(ENDINGS) and n != LABELS_TABLE]
    other = [n for n in names if n not in found and n != LABELS_TABLE and Path(n).name.lower() not in _USUAL]
    if not found:
        have = f"it holds {', '.join(other[:3])}" if other else "it is empty"
        raise InputError(f"{folder} must hold recordings ({', '.join(ENDINGS)}); {have}.")
    kinds = {Path(name).suffix.lower(): name for name in reversed(found)}
    if len(kinds) > 1:
        shown = " and ".join(kinds[kind] for kind in sorted(kinds))
        raise InputError(
            f"{folder} must hold recordings of one form; got {shown}. Move the others to another folder."
        )
    return Listing(folder, tuple(found), folder / LABELS_TABLE if has_table else None, tuple(other))
