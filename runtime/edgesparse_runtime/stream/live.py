"""`run_live`: a source in one thread, scoring in this one, scores written as they come, until it ends."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from edgesparse_runtime.errors import InputError
from edgesparse_runtime.stream.backlog import Backlog
from edgesparse_runtime.stream.broker import BrokerAddress, read_broker
from edgesparse_runtime.stream.counts import Counts
from edgesparse_runtime.stream.lines import LineParser
from edgesparse_runtime.stream.parse import SampleParser
from edgesparse_runtime.stream.sample import Sample, Score
from edgesparse_runtime.stream.sources import Line, check_file, follow_file, read_pipe
from edgesparse_runtime.stream.stream import MOST_MACHINES, Stream

# Lines that may wait to be scored.
BACKLOG = 65_536
_WAKE = 0.2

Note = Callable[[str], None]


class Reader:
    """A source at work: its backlog, and what stops it.

    Args:
        source: "-" for standard input, a file to follow, or mqtt://HOST/TOPIC.
        counts: where what a source loses is counted.
        note: is told what a person should know.
        limit: lines that may wait to be scored.

    Raises:
        InputError: there is no such source.
        EdgeSparseError: a broker does not let us in.
    """

    def __init__(self, source: str, counts: Counts, *, note: Note, limit: int = BACKLOG) -> None:
        if limit < 1:
            raise InputError(f"`backlog` must be at least 1 line; got {limit}.")
        self.backlog: Backlog[Line] = Backlog(limit)
        self._stop: Callable[[], None] = lambda: None
        if source.startswith(("mqtt:", "mqtts:")):
            self._stop = read_broker(BrokerAddress.parse(source), self.backlog, counts, note)
        elif source == "-":
            self._start(lambda: read_pipe(sys.stdin.buffer, self.backlog))
        else:
            path = Path(source)
            check_file(path)
            self._start(lambda: follow_file(path, self.backlog, counts))

    def stop(self) -> None:
        """Read nothing more; what has arrived stays in the backlog."""
        self.backlog.close()
        self._stop()

    def _start(self, read: Callable[[], None]) -> None:
        def work() -> None:
            try:
                read()
                self.backlog.close()
            except BaseException as error:
                self.backlog.close(error)

        # A daemon: a read that never returns must not keep the program from ending.
        threading.Thread(target=work, name="edgesparse-source", daemon=True).start()


def run_live(
    reader: Reader,
    stream: Stream,
    parser: SampleParser,
    write: Callable[[Score, bool], None],
    *,
    note: Note,
) -> None:
    """Score a source until it ends, or until SIGINT or SIGTERM; what has arrived by then is finished.

    Args:
        write: is given each score, and whether it missed the deadline.
        note: is told of the first line that cannot be read.

    Raises:
        InputError: the source does not fit the model.
        KeyboardInterrupt: a second signal came before the first had its effect.
    """
    forms: dict[str, LineParser] = {}

    def samples(lines: list[Line]) -> Iterator[Sample]:
        for line in lines:
            form = forms.get(line.topic)
            if form is None:
                if len(forms) >= MOST_MACHINES:
                    stream.counts.too_many_machines += 1
                    continue
                is_topic = bool(line.topic)
                form = LineParser(parser, stream.counts, note, is_one_of_many=is_topic)
                forms[line.topic] = form
            sample = form.to_sample(line.text, line.arrived)
            if sample is not None:
                yield sample if sample.machine or not line.topic else sample._replace(machine=line.topic)

    with _stopped_by_signal(reader.stop):
        try:
            while (lines := reader.backlog.take(_WAKE)) is not None:
                for sample in samples(lines):
                    for score in stream.push(sample):
                        write(score, stream.is_late(score))
            for score in stream.finish():
                write(score, stream.is_late(score))
        finally:
            reader.stop()


@contextmanager
def _stopped_by_signal(stop: Callable[[], None]) -> Iterator[None]:
    """SIGINT and SIGTERM call `stop` once, then interrupt; left as they were afterwards."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    seen: list[int] = []

    def handle(number: int, _frame: FrameType | None) -> None:
        if seen:
            raise KeyboardInterrupt
        seen.append(number)
        # Not here: the main thread may hold the very lock that closing needs.
        threading.Thread(target=stop, daemon=True).start()

    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, handle) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
