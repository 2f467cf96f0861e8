"""What flows through a stream: samples as they arrive, steps of an even grid, scores that come out."""

from __future__ import annotations

from dataclasses import dataclass
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
    """

    values: FloatArray
    time: float | None
    arrived: float
    machine: str = ""


class Step(NamedTuple):
    """One place of the even grid that windows are cut from.

    Attributes:
        values: float32 [channels]; all NaN where no sample came.
        time: seconds: the sample's own time stamp, or where the grid stands for a filled step; without time
            stamps the number of the sample.
        arrived: when the sample came that made this step known.
        restarts: the steps before this one must not share a window with it.
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
        segment: counts restarts; windows never reach over one.
        missing: share of its values that were missing.
        arrived: when the sample came that completed it.
        machine: what the samples came from.
    """

    values: FloatArray
    time: float
    start: float
    steps: int
    segment: int
    missing: float
    arrived: float
    machine: str = ""
