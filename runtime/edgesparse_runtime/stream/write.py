"""Scores out: one JSON object or one CSV row each, written at once."""

from __future__ import annotations

import csv
import json
import time
from datetime import UTC, datetime
from typing import Any, Literal, TextIO

from edgesparse_runtime.stream.parse import SampleParser
from edgesparse_runtime.stream.sample import Score
from edgesparse_runtime.text.escape import escape_csv_row

SCHEMA = "edgesparse.stream/1"
Form = Literal["json", "csv"]


class ScoreWriter:
    """Writes scores of one stream.

    Args:
        out: where to.
        form: "json" (one object a line) or "csv".
        parser: knows how the source writes its times.
        classes: names in the order of the scores; empty for regression.
        has_header: `out` holds a CSV header already.
    """

    def __init__(
        self,
        out: TextIO,
        form: Form,
        parser: SampleParser,
        classes: tuple[str, ...],
        *,
        has_header: bool = False,
    ) -> None:
        self._out = out
        self._form = form
        self._parser = parser
        self._classes = classes
        self._has_header = has_header

    def write(self, score: Score, is_late: bool) -> None:
        """Write one score and hand it to the operating system."""
        row = self._row(score, is_late)
        if self._form == "json":
            self._out.write(json.dumps({"schema": SCHEMA, "event": "score", **row}) + "\n")
        else:
            names = row.pop("scores")
            writer = csv.writer(self._out, lineterminator="\n")
            if not self._has_header:
                prefix = "score_" if self._classes else ""
                writer.writerow(escape_csv_row([*row, *(prefix + name for name in names)]))
                self._has_header = True
            writer.writerow(escape_csv_row([*row.values(), *names.values()]))
        self._out.flush()

    def write_summary(self, summary: dict[str, Any]) -> None:
        """The last line of JSON lines; CSV has no place for it."""
        if self._form == "json":
            self._out.write(json.dumps({"schema": SCHEMA, "event": "summary", **summary}) + "\n")
            self._out.flush()

    def _row(self, score: Score, is_late: bool) -> dict[str, Any]:
        values = [round(float(v), 6) for v in score.values]
        row: dict[str, Any] = {"time": self._time(score.time), "start": self._time(score.start)}
        if score.machine:
            row["machine"] = score.machine
        row |= {"segment": score.segment, "steps": score.steps, "missing": round(score.missing, 4)}
        if self._classes:
            best = max(range(len(values)), key=values.__getitem__)
            row |= {"decision": self._classes[best], "score": values[best]}
        names = self._classes or tuple(f"output_{i}" for i in range(len(values)))
        row["scores"] = dict(zip(names, values, strict=True))
        row["latency_ms"] = round((time.perf_counter() - score.arrived) * 1e3, 3)
        row["deadline_missed"] = is_late
        return row

    def _time(self, seconds: float) -> str | float:
        """As the source writes it: a calendar time in UTC, or a number in its unit."""
        if self._parser.iso_times:
            return (
                datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
            )
        return round(seconds / self._parser.unit, 9)
