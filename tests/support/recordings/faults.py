"""Faults planted in a good folder of recordings, and what `edgesparse data inspect` must find of each."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.support.recordings.folders import CLASSES, VARIANTS, edit

NORMAL, FAULTY = CLASSES
SAMPLE = f"{NORMAL}/P2_1.csv"


@dataclass(frozen=True)
class Planted:
    """One fault.

    Attributes:
        change: plants it in a folder.
        kind: of the finding.
        where: in the finding's `where`, or in its text where it is about the whole.
        channel: of the finding.
    """

    change: Callable[[Path], None]
    kind: str
    where: str = "P2_1.csv"
    channel: str = ""


def set_cells(
    column: int, first: int, last: int, change: Callable[[float], str], sample: str = SAMPLE
) -> Callable[[Path], None]:
    """A change of one column's cells in some rows."""

    def apply(lines: list[str]) -> list[str]:
        rows = [line.split(",") for line in lines]
        for row in rows[first:last]:
            row[column] = change(float(row[column]))
        return [",".join(row) for row in rows]

    return edit(apply, sample)


def shift_class(folder: Path) -> None:
    """The thermometer was moved between the two sessions."""
    for path in (folder / FAULTY).glob("*.csv"):
        set_cells(3, 1, 500, lambda x: f"{x + 5:.2f}", f"{FAULTY}/{path.name}")(folder)


def record_in_order(folder: Path) -> None:
    """All of the faulty class a day after the other."""
    for path in (folder / FAULTY).glob("*.csv"):
        text = path.read_text(encoding="utf-8")
        path.write_text(text.replace("2026/11/02", "2026/11/03"), encoding="utf-8")


def copy_to_another_group(folder: Path) -> None:
    shutil.copy(folder / SAMPLE, folder / NORMAL / "P3_7.csv")


def one_group_only(folder: Path) -> None:
    for path in (folder / FAULTY).glob("P[12]_*.csv"):
        path.unlink()


def lose_time(lines: list[str]) -> list[str]:
    """Half a second without a row."""
    return [*lines[:200], *lines[250:]]


# Twelve that `make prove-people` shows.
FAULTS = {
    "another encoding": Planted(VARIANTS["Shift-JIS in one file"].change, "file"),
    "semicolons and decimal commas": Planted(
        VARIANTS["semicolons and decimal commas in one file"].change, "form"
    ),
    "another unit": Planted(VARIANTS["another unit in one file"].change, "header"),
    "a gap": Planted(edit(lose_time), "gap"),
    "another sampling rate": Planted(VARIANTS["another sampling rate in one file"].change, "rate"),
    "a stuck sensor": Planted(set_cells(2, 100, 220, lambda x: "5.123"), "stuck", channel="電流(A)"),
    "a clipped sensor": Planted(
        set_cells(1, 1, 500, lambda x: f"{min(x, 0.8):.3f}"), "clipped", channel="振動(m/s2)"
    ),
    "a number for missing values": Planted(
        set_cells(3, 50, 60, lambda x: "-999"), "missing code", channel="温度(℃)"
    ),
    "a channel that tells the class": Planted(shift_class, "leak", "", "温度(℃)"),
    "classes recorded one after the other": Planted(record_in_order, "order leak", ""),
    "a copy in another group": Planted(copy_to_another_group, "copy", "P3_7.csv"),
    "a class of one group": Planted(one_group_only, "class in one group", ""),
}
