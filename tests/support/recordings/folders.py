"""A folder of recordings as a Japanese logger leaves it, and the ways in which such a folder is malformed.

Each class has a sub-folder, each file starts with its machine: `正常/P1_0.csv`.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np

HEADER = "時刻,振動(m/s2),電流(A),温度(℃)"
CHANNELS = ("振動(m/s2)", "電流(A)", "温度(℃)")
CLASSES = {"正常": 3.0, "軸受異常": 8.0}
MACHINES = ("P1", "P2", "P3")
STEPS = 400
STEP = timedelta(milliseconds=10)


def make_folder(folder: Path, *, repeats: int = 2, steps: int = STEPS) -> Path:
    """Recordings of three machines in two states, at 100 Hz, at times of day that tell nothing."""
    number = 0
    for repeat in range(repeats):
        for m, machine in enumerate(MACHINES):
            # Either class is recorded first as often as last.
            for kind in sorted(CLASSES, reverse=bool((m + repeat) % 2)):
                path = folder / kind / f"{machine}_{repeat}.csv"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(recording(CLASSES[kind], number, m, steps), encoding="utf-8")
                number += 1
    return folder


def recording(frequency: float, seed: int, machine: int, steps: int = STEPS) -> str:
    """One file: vibration of a frequency, a current and a temperature that tell nothing."""
    rng = np.random.default_rng(seed)
    time = 0.01 * np.arange(steps)
    vibration = np.sin(2 * np.pi * (frequency * time + rng.random())) + 0.2 * rng.standard_normal(steps)
    current = 5 + 0.3 * np.sin(7 * time + rng.random()) + 0.05 * rng.standard_normal(steps)
    warmth = 40 + 0.5 * machine + 0.1 * rng.standard_normal(steps)
    start = datetime(2026, 11, 2, 8) + timedelta(minutes=5 * seed)
    rows = [HEADER]
    for i in range(steps):
        stamp = (start + i * STEP).strftime("%Y/%m/%d %H:%M:%S.%f")[:-4]
        rows.append(f"{stamp},{vibration[i]:.3f},{current[i]:.3f},{warmth[i]:.2f}")
    return "\n".join([*rows, ""])


@dataclass(frozen=True)
class Variant:
    """A malformed folder.

    Attributes:
        change: makes it of a good one.
        words: what the one line of the refusal holds; () = it is read rightly.
        sample: the file that is changed.
    """

    change: Callable[[Path], None]
    words: tuple[str, ...] = ()
    sample: str = "正常/P2_1.csv"


def edit(change: Callable[[list[str]], list[str]], sample: str = "正常/P2_1.csv") -> Callable[[Path], None]:
    """A change of one file's lines."""

    def apply(folder: Path) -> None:
        path = folder / sample
        path.write_text(
            "\n".join(change(path.read_text(encoding="utf-8").splitlines())) + "\n", encoding="utf-8"
        )

    return apply


def _cell(row: int, column: int, text: str) -> Callable[[Path], None]:
    def change(lines: list[str]) -> list[str]:
        cells = lines[row - 1].split(",")
        cells[column] = text
        return [*lines[: row - 1], ",".join(cells), *lines[row:]]

    return edit(change)


def _recode(folder: Path) -> None:
    path = folder / "正常/P2_1.csv"
    path.write_bytes(path.read_text(encoding="utf-8").encode("cp932"))


def _decimal_commas(folder: Path) -> None:
    """As Excel of a German computer saves it."""
    path = folder / "正常/P2_1.csv"
    rows = path.read_text(encoding="utf-8").splitlines()
    moved = [row.replace(",", ";") if i == 0 else _german(row) for i, row in enumerate(rows)]
    path.write_text("\n".join([*moved, ""]), encoding="utf-8-sig")


def _german(row: str) -> str:
    time, *values = row.split(",")
    return ";".join([time, *(value.replace(".", ",") for value in values)])


def _swap_columns(lines: list[str]) -> list[str]:
    return [
        ",".join([cells[0], cells[2], cells[1], *cells[3:]]) for cells in (line.split(",") for line in lines)
    ]


def _same_in_two_classes(folder: Path) -> None:
    shutil.copy(folder / "正常/P2_1.csv", folder / "軸受異常/P2_9.csv")


def _folders_in_folders(folder: Path) -> None:
    (folder / "正常/P2").mkdir()
    (folder / "正常/P2_1.csv").rename(folder / "正常/P2/P2_1.csv")


# Ten that `make prove-people` shows, and what becomes of each.
VARIANTS = {
    "Shift-JIS in one file": Variant(_recode, ("P2_1.csv", "byte 0", "iconv -f CP932", "--encoding cp932")),
    "semicolons and decimal commas in one file": Variant(_decimal_commas),
    "columns in another order in one file": Variant(edit(_swap_columns)),
    "a word in a cell of numbers": Variant(
        _cell(18, 1, "エラー"), ("正常/P2_1.csv, row 18", "must be a number", "'エラー'", "Correct the cell")
    ),
    "a row that is cut off": Variant(
        edit(lambda lines: [*lines[:-1], lines[-1].rsplit(",", 2)[0]]),
        ("P2_1.csv, row 401", "4 cells; got 2", "Complete the row or delete it"),
    ),
    "another unit in one file": Variant(
        edit(lambda lines: [lines[0].replace("電流(A)", "電流(mA)"), *lines[1:]]),
        ("P2_1.csv, row 1", "電流(mA)", "電流(A)", "Convert its values"),
    ),
    "a column that one file lacks": Variant(
        edit(lambda lines: [line.rsplit(",", 1)[0] for line in lines]),
        ("P2_1.csv, row 1", "温度(℃)", "leave the file out"),
    ),
    "another sampling rate in one file": Variant(
        edit(lambda lines: [lines[0], *lines[1::2]]),
        ("正常/P2_1.csv, row 2", "0.02 s", "0.01 s", "Resample"),
    ),
    "one recording in two classes": Variant(
        _same_in_two_classes, ("正常/P2_1.csv", "軸受異常/P2_9.csv", "one label", "Remove one")
    ),
    "a folder within a folder": Variant(
        _folders_in_folders, ("正常/P2/P2_1.csv", "--label-from '{label}/{group}/*'")
    ),
}
