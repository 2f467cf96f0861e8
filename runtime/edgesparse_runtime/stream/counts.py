"""Everything that a stream counts instead of dropping it silently, and its latencies in constant memory."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields

# Bins of the latency histogram: 48 per decade from a microsecond to 1,000 seconds, each 5 % wide.
_PER_DECADE, _FIRST, _DECADES = 48, -6, 9


class Latencies:
    """Latencies in seconds: count, maximum, and quantiles to 5 %."""

    def __init__(self) -> None:
        self._bins = [0] * (_PER_DECADE * _DECADES)
        self.count = 0
        self.largest = 0.0

    def add(self, seconds: float) -> None:
        place = int((math.log10(max(seconds, 1e-6)) - _FIRST) * _PER_DECADE)
        self._bins[min(place, len(self._bins) - 1)] += 1
        self.count += 1
        self.largest = max(self.largest, seconds)

    def quantile(self, share: float) -> float:
        """Upper edge of the bin that holds this share, at most the largest latency; 0 without any."""
        seen = 0
        for place, count in enumerate(self._bins):
            seen += count
            if count and seen >= share * self.count:
                return min(self.largest, float(10 ** ((place + 1) / _PER_DECADE + _FIRST)))
        return 0.0


# Sources that are counted apart; those beyond share one entry.
MOST_SOURCES = 1000
OTHERS = "(others)"


@dataclass
class SourceCounts:
    """What happened to the lines of one source: a topic of a broker, or a machine of a file or pipe."""

    samples: int = 0
    malformed: int = 0
    dropped: int = 0
    failed: int = 0


@dataclass
class Counts:
    """What happened to the samples of a stream (docs/guides/streaming.md defines each count).

    Attributes:
        samples: that arrived and could be read.
        steps: of the grid, filled ones included.
        filled: steps without a sample, set to missing.
        scores: windows scored.
        faulty: scores of windows in which a sensor looks dead.
        unknown: scores of windows unlike all training windows.
        deadline_missed: scores that came out later than the deadline.
        restarts: windows restarted after a gap longer than the limit, or a clock that went back.
        clock_back: times that the clock was set back.
        late: samples whose step had already gone into a window; not used.
        strays: samples with a time stamp far ahead of those before and after it; not used.
        duplicates: second samples of a step; what the first lacked was filled in, the rest not used.
        not_finite: infinite values, treated as missing.
        bad_cells: cells that are no number, treated as missing.
        malformed: lines or messages that could not be read.
        failed: samples that could not be scored; their machine starts anew.
        too_many_machines: samples of machines beyond the first thousand; not used.
        wrong_period: samples of machines whose sampling period the model does not fit; not used.
        early: samples placed before their lateness was over, because too many waited.
        dropped: lines that a source that cannot wait (MQTT) lost because the backlog was full.
        reopened: times that a followed file was replaced or cut.
        reconnects: times that a broker's connection came back.
    """

    samples: int = 0
    steps: int = 0
    filled: int = 0
    scores: int = 0
    faulty: int = 0
    unknown: int = 0
    deadline_missed: int = 0
    restarts: int = 0
    clock_back: int = 0
    late: int = 0
    strays: int = 0
    duplicates: int = 0
    not_finite: int = 0
    bad_cells: int = 0
    malformed: int = 0
    failed: int = 0
    too_many_machines: int = 0
    wrong_period: int = 0
    early: int = 0
    dropped: int = 0
    reopened: int = 0
    reconnects: int = 0
    latencies: Latencies = field(default_factory=Latencies, repr=False)
    sources: dict[str, SourceCounts] = field(default_factory=dict, repr=False)

    def of(self, source: str) -> SourceCounts:
        """The counts of one source."""
        counts = self.sources.get(source)
        if counts is None:
            name = source if len(self.sources) < MOST_SOURCES else OTHERS
            counts = self.sources.setdefault(name, SourceCounts())
        return counts

    def to_dict(self) -> dict[str, int | float]:
        """The counts, and the latencies' median, 99th percentile and maximum in milliseconds."""
        counts: dict[str, int | float] = {
            f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("latencies", "sources")
        }
        for name, share in (("latency_ms_p50", 0.5), ("latency_ms_p99", 0.99)):
            counts[name] = round(self.latencies.quantile(share) * 1e3, 4)
        counts["latency_ms_max"] = round(self.latencies.largest * 1e3, 4)
        return counts
