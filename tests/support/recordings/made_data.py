"""Generated data sets, and the many ways to write one that must not change what is read.

`EDGESPARSE_EXAMPLES` sets how many data sets are made for each property; `make prove-answers` sets thousands
in all.
"""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

from edgesparse_runtime.arrays import FloatArray

EXAMPLES = int(os.environ.get("EDGESPARSE_EXAMPLES", "15"))
PERIOD = timedelta(milliseconds=20)
# A day that no month has, shortly before an hour ends.
START = datetime(2024, 1, 30, 9, 59, 59, 700_000)
many = settings(
    max_examples=EXAMPLES,
    deadline=None,
    # A failing data set is small as it is; to make it smaller takes minutes.
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@dataclass(frozen=True)
class Made:
    """A data set before it is written.

    Attributes:
        series: float32 [channels, steps] each.
        names: of the series.
        labels: of the series.
        channels: names.
    """

    series: list[FloatArray]
    names: list[str]
    labels: list[str]
    channels: tuple[str, ...]

    def take(self, order: Sequence[int]) -> Made:
        """Some of the series, in another order."""
        return Made(
            [self.series[i] for i in order],
            [self.names[i] for i in order],
            [self.labels[i] for i in order],
            self.channels,
        )


def stamps(count: int) -> list[datetime]:
    return [START + i * PERIOD for i in range(count)]


def _instant(stamp: datetime) -> str:
    """As Java writes it: without the zeros of a second's fraction."""
    text = stamp.strftime("%Y-%m-%dT%H:%M:%S")
    fraction = f"{stamp.microsecond // 1000:03d}"
    return text + ("" if fraction == "000" else "." + fraction) + "Z"


CLOCKS = {
    "seconds": lambda s: f"{(s - START).total_seconds():.2f}",
    "iso": lambda s: s.isoformat(sep=" "),
    "instant": _instant,
    "slashes": lambda s: s.strftime("%Y/%m/%d %H:%M:%S.%f")[:-3],
    "american": lambda s: s.strftime("%m/%d/%Y %I:%M:%S.%f %p"),
    "german": lambda s: s.strftime("%d.%m.%Y %H:%M:%S.%f")[:-4],
    "named": lambda s: s.strftime("%d-%b-%Y %H:%M:%S.%f"),
    "hour": lambda s: f"{s.hour}:{s.minute:02d}:{s.second:02d}.{s.microsecond // 10000:02d}",
    "epoch_ms": lambda s: str(1_706_608_799_700 + round((s - START).total_seconds() * 1000)),
    "zoned": lambda s: s.isoformat() + "+01:00",
}


@st.composite
def made(
    draw: st.DrawFn,
    *,
    channels: Sequence[str] = (),
    labels: Sequence[str] = ("1_1", "11", "on", "läuft"),
    steps: tuple[int, int] = (4, 30),
) -> Made:
    """Numbers with gaps; the last step of a series is known, so that none of it looks like padding.

    Args:
        channels: names; () = one to three of any name.
        labels: to draw from.
        steps: fewest and most of a series.
    """
    count, width = draw(st.integers(1, 4)), len(channels) or draw(st.integers(1, 3))
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    series = []
    for _ in range(count):
        shape = (width, int(rng.integers(steps[0], steps[1] + 1)))
        x = (rng.standard_normal(shape) * 10.0 ** rng.integers(-3, 4)).astype(np.float32)
        x[rng.random(x.shape) < 0.1] = np.nan
        x[:, -1], x[0, 0] = 1.25, 0.5
        series.append(x)
    names = [f"P{seed % 97}_{i}" for i in range(count)]
    chosen = [labels[int(rng.integers(len(labels)))] for _ in range(count)]
    return Made(series, names, chosen, tuple(channels) or tuple(f"c{i}" for i in range(width)))


def write(
    path: Path,
    data: Made,
    *,
    clock: str = "seconds",
    delimiter: str = ",",
    decimal: str = ".",
    newline: str = "\n",
    encoding: str = "utf-8",
    quotes: bool = False,
    blank: str = "",
    shuffle: int | None = None,
    columns: int | None = None,
) -> Path:
    """A CSV file; every choice but the path leaves the data as they are."""
    header = ["series", "time", *data.channels, "label"]
    rows = []
    for x, name, label in zip(data.series, data.names, data.labels, strict=True):
        for stamp, values in zip(stamps(x.shape[1]), x.T, strict=True):
            cells = [blank if np.isnan(v) else repr(float(v)).replace(".", decimal) for v in values]
            time = CLOCKS[clock](stamp)
            rows.append([name, time.replace(".", decimal) if clock == "seconds" else time, *cells, label])
    if shuffle is not None:
        random.Random(shuffle).shuffle(rows)
    order = list(range(len(header)))
    if columns is not None:
        kept = order[2:-1]
        others = [order[0], order[1], order[-1]]
        random.Random(columns).shuffle(others)
        order = others[:1] + kept + others[1:]
    lines = []
    for row in [header, *rows]:
        cells = [row[i] for i in order]
        lines.append(delimiter.join(f'"{c}"' if quotes else c for c in cells))
    path.write_bytes((newline.join(lines) + newline).encode(encoding))
    return path
