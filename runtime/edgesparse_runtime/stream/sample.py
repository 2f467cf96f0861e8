"""The data of a stream: samples as they arrive, steps of an even grid, scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]


class Sample(NamedTuple):
    """One reading of all channels.

    Attributes:
        values: float32 [channels] in the model's order; NaN = missing.
        time: its time stamp in seconds; None = the source has none, each sample is the next step.
        arrived: when it came in, in seconds of `time.perf_counter`.
        machine: what it comes from; each machine is a stream of its own.
        topic: the broker's topic that it came on; "" = from a file, a pipe or a program.
        is_topics: the machine is the topic; a machine that a message names so is another one.
        is_calendar: `time` is a calendar time, seconds since 1970.
        is_local: it is written without a zone.
        unit: seconds of one unit of the time stamps, where they are numbers.
    """

    values: FloatArray
    time: float | None
    arrived: float
    machine: str = ""
    topic: str = ""
    is_topics: bool = False
    is_calendar: bool = False
    is_local: bool = False
    unit: float = 1.0


class Step(NamedTuple):
    """One step of the even grid that windows are cut from.

    Attributes:
        values: float32 [channels]; all NaN where no sample came.
        time: seconds: the sample's own time stamp, or where the grid stands for a filled step; without time
            stamps the number of the sample.
        arrived: when the sample came that made this step known.
        restarts: no window may hold both this step and earlier ones.
    """

    values: FloatArray
    time: float
    arrived: float
    restarts: bool


@dataclass(frozen=True)
class Score:
    """The scores of one window.

    Attributes:
        values: float32 [classes or targets].
        time: time of its last step; start: of its first.
        steps: how many it holds.
        segment: counts restarts; no window spans one.
        missing: share of its values that were missing.
        arrived: when the sample came that completed it.
        machine: what the samples came from.
        is_calendar: the times are calendar times, seconds since 1970.
        is_local: the source writes them without a zone.
        unit: seconds of one unit of the source's time stamps, where they are numbers.
        faults: what is wrong with the sensors, as "vibration: flat"; the score of such a window means little.
        unknown: how unlike all training windows it is, above 1 = none of these; None = the model cannot tell.
        signals: of the window, for a monitor; None = the stream has none.
    """

    values: FloatArray
    time: float
    start: float
    steps: int
    segment: int
    missing: float
    arrived: float
    machine: str = ""
    is_calendar: bool = False
    is_local: bool = False
    unit: float = 1.0
    faults: tuple[str, ...] = ()
    unknown: float | None = None
    signals: Sequence[float] | None = field(default=None, compare=False, repr=False)
