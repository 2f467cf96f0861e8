"""Scores out: one JSON object or CSV row per score, flushed at once."""

from __future__ import annotations

import csv
import json
import time
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, Protocol

from edgesparse_runtime.data.escape import escape_csv_row
from edgesparse_runtime.errors import InputError
from edgesparse_runtime.stream.monitor.alarm import Alarm
from edgesparse_runtime.stream.sample import Score

MACHINE = "machine"
SCHEMA = "edgesparse.stream/1"
Form = Literal["json", "csv"]
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Sink(Protocol):
    """Where scores go: a text stream or an `AppendLog`."""

    def write(self, text: str, /) -> int: ...

    def flush(self) -> None: ...


class ScoreWriter:
    """Writes scores of one stream.

    Args:
        out: where to.
        form: "json" (one object per line) or "csv".
        classes: names in the order of the scores; empty for regression.
        header: the CSV header that `out` holds already; () = none.
    """

    def __init__(
        self,
        out: Sink,
        form: Form,
        classes: tuple[str, ...],
        *,
        header: Sequence[str] = (),
    ) -> None:
        self._out = out
        self._form = form
        self._classes = unique_names(classes)
        self._header = list(header)

    def write(self, score: Score, is_late: bool) -> None:
        """Write one score and hand it to the operating system.

        Raises:
            InputError: the file's header has other columns than the score.
        """
        row = self._row(score, is_late)
        if self._form == "json":
            self._out.write(json.dumps({"schema": SCHEMA, "event": "score", **row}) + "\n")
        else:
            names = row.pop("scores")
            row["faults"] = "; ".join(row["faults"])
            prefix = "score_" if self._classes else ""
            row |= {prefix + name: value for name, value in names.items()}
            self._write_cells(row)
        self._out.flush()

    def write_alarm(self, alarm: Alarm, score: Score) -> str:
        """Write an alarm of the monitor that `score` completed, and return it; CSV has no place for it."""
        return self.write_event("alarm", {**alarm.to_dict(), "time": self._time(score, score.time)})

    def write_of(self, name: str, row: dict[str, Any], score: Score) -> str:
        """Write a line of another event that `score` completed, and return it; CSV has no place for it."""
        machine = {MACHINE: score.machine} if score.machine else {}
        return self.write_event(name, {"time": self._time(score, score.time), **machine, **row})

    def _write_cells(self, row: dict[str, Any]) -> None:
        writer = csv.writer(self._out, lineterminator="\n")
        columns = [str(cell) for cell in escape_csv_row(list(row))]
        if not self._header:
            writer.writerow(columns)
            self._header = columns
        if self._header != columns and MACHINE in self._header and MACHINE not in row:
            # One score of many without a machine's name.
            at = self._header.index(MACHINE)
            columns.insert(at, MACHINE)
            row = dict(zip(columns, [*list(row.values())[:at], "", *list(row.values())[at:]], strict=True))
        if self._header != columns:
            raise InputError(
                f"Scores can be appended only to a file with the columns {', '.join(columns)}; it has "
                f"{', '.join(self._header)}. Choose another file."
            )
        writer.writerow(escape_csv_row(list(row.values())))

    def begin_file(self, header: Sequence[str]) -> None:
        """What follows goes into another file, which holds this header, or none."""
        self._header = list(header)

    def write_summary(self, summary: dict[str, Any]) -> None:
        """Write the last line of JSON lines; CSV has no place for it."""
        self.write_event("summary", summary)

    def write_event(self, name: str, row: dict[str, Any]) -> str:
        """Write a line that is no score, where the form has a place for it, and return it."""
        line = json.dumps({"schema": SCHEMA, "event": name, **row})
        if self._form == "json":
            self._out.write(line + "\n")
            self._out.flush()
        return line

    def _row(self, score: Score, is_late: bool) -> dict[str, Any]:
        values = [round(float(v), 6) for v in score.values]
        row: dict[str, Any] = {"time": self._time(score, score.time), "start": self._time(score, score.start)}
        if score.machine:
            row[MACHINE] = score.machine
        row |= {"segment": score.segment, "steps": score.steps, "missing": round(score.missing, 4)}
        if self._classes:
            best = max(range(len(values)), key=values.__getitem__)
            row |= {"decision": self._classes[best], "score": values[best]}
        names = self._classes or tuple(f"output_{i}" for i in range(len(values)))
        row["scores"] = dict(zip(names, values, strict=True))
        row["latency_ms"] = round((time.perf_counter() - score.arrived) * 1e3, 3)
        row["deadline_missed"] = is_late
        row["faults"] = list(score.faults)
        if score.unknown is not None:
            row |= {"unknown": score.unknown > 1, "unknown_score": round(score.unknown, 4)}
        return row

    def _time(self, score: Score, seconds: float) -> str | float:
        """As the source measures it: in UTC, local where it writes no zone, or a number in its unit."""
        if score.is_calendar:
            moment = _EPOCH + timedelta(seconds=seconds)
            text = moment.replace(tzinfo=None).isoformat(timespec="microseconds")
            return text if score.is_local else text + "Z"
        return round(seconds / score.unit, 9)


def unique_names(names: Sequence[str]) -> tuple[str, ...]:
    """`names` with a number added to each that came before: two classes of one name keep both scores."""
    seen: Counter[str] = Counter()
    unique = []
    for name in names:
        seen[name] += 1
        unique.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return tuple(unique)
