"""What an inspection finds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

import numpy as np
import numpy.typing as npt

from edgesparse_runtime.arrays import DoubleArray, FloatArray


@dataclass(frozen=True)
class Finding:
    """One thing to look at.

    Attributes:
        kind: a few words, of a short list: "stuck", "gap", "copy".
        where: file or recording; "" = the data as a whole.
        channel: "" where it is about no channel.
        text: a sentence, with what to do.
        stops: the verbs refuse the data until it is gone.
    """

    kind: str
    where: str
    channel: str
    text: str
    stops: bool = False

    def to_dict(self) -> dict[str, object]:
        return asdict(self)

    def __str__(self) -> str:
        place = ", ".join(part for part in (self.where, self.channel) if part)
        return f"{place}: {self.text}" if place else self.text


@dataclass(frozen=True)
class Piece:
    """A recording, or a part of one that has one label.

    Attributes:
        name: for people.
        file: of a folder; "" for one file.
        values: [channels, steps].
        times: in seconds, in the order of the file; None = there are none.
        lines: line or row of each step in its file.
        label, group: "" = unknown.
    """

    name: str
    file: str
    values: FloatArray
    times: DoubleArray | None
    lines: Sequence[int] | npt.NDArray[np.int64]
    label: str = ""
    group: str = ""


@dataclass
class Pieces:
    """All of them, with what the checks need to know of them.

    Attributes:
        is_calendar: their times are dates, so that pieces of several files have an order.
        has_groups: a machine, person or run is named for each.
    """

    channels: tuple[str, ...] = ()
    pieces: list[Piece] = field(default_factory=list)
    is_calendar: bool = False
    has_groups: bool = False
