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
from edgesparse_runtime.stream.counts import Counts
from edgesparse_runtime.stream.lines import LineParser
from edgesparse_runtime.stream.network.broker import BrokerAddress, read_broker
from edgesparse_runtime.stream.network.opcua import ServerAddress, read_server
from edgesparse_runtime.stream.network.wanted import NOTHING, Wanted
from edgesparse_runtime.stream.notes import Notes
from edgesparse_runtime.stream.parse import LONGEST_NAME, SampleParser
from edgesparse_runtime.stream.places import Places
from edgesparse_runtime.stream.sample import Sample, Score
from edgesparse_runtime.stream.sources import Line, check_file, follow_file, read_pipe
from edgesparse_runtime.stream.stream import MOST_MACHINES, Stream

# Most lines that wait to be scored.
BACKLOG = 65_536
_WAKE = 0.2
# How the addresses of sources over a network begin.
BROKERS, SERVERS = ("mqtt:", "mqtts:"), ("opc.tcp:",)

Note = Callable[[str], None]


class Reader:
    """A source that is being read: its backlog, and how to stop it.

    Args:
        source: "-" for standard input, a file to follow, mqtt://HOST/TOPIC, or opc.tcp://HOST?node=NODEID.
        counts: where what a source loses is counted.
        note: told what a person should know.
        limit: most lines that wait to be scored.
        wanted: what the model needs.

    Raises:
        InputError: no such source.
        EdgeSparseError: a broker or server refuses the connection.
    """

    def __init__(
        self, source: str, counts: Counts, *, note: Note, limit: int = BACKLOG, wanted: Wanted = NOTHING
    ) -> None:
        if limit < 1:
            raise InputError(f"`backlog` must be at least 1 line; got {limit}.")

        def drop(topic: str) -> None:
            counts.dropped += 1
            counts.of(topic).dropped += 1

        self.backlog: Backlog[Line] = Backlog(limit, on_drop=drop)
        self._stop: Callable[[], None] = lambda: None
        if source.startswith(BROKERS):
            self._stop = read_broker(BrokerAddress.parse(source), self.backlog, counts, note, wanted)
        elif source.startswith(SERVERS):
            self._stop = read_server(ServerAddress.parse(source), self.backlog, counts, note, wanted)
        elif source == "-":
            self._start(lambda: read_pipe(sys.stdin.buffer, self.backlog))
        else:
            path = Path(source)
            check_file(path)
            if not path.exists():
                note(f"{path}: waiting for it to be created")
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
    bind_topics: bool = False,
) -> bool:
    """Score a source until it ends, or until SIGINT or SIGTERM; what has arrived by then is finished.

    Args:
        write: given each score, and whether it missed the deadline.
        note: told of the first line of each source that cannot be read, and of what somebody should know.
        bind_topics: a message's topic is its machine, whatever the message names.

    Returns:
        True when the source ended; False when a signal ended it.

    Raises:
        InputError: the source does not fit the model.
        KeyboardInterrupt: a second signal came before the first had its effect.
    """
    notes = Notes(note)
    stream.warn = notes
    sources = _Sources(parser, stream.counts, notes, bind_topics)
    with _stopped_by_signal(reader.stop) as signals:
        try:
            while (lines := reader.backlog.take(_WAKE)) is not None:
                for line in lines:
                    sample = sources.to_sample(line)
                    if sample is not None:
                        _push(stream, sample, write, notes)
            sources.finish()
            for score in stream.finish():
                write(score, stream.is_late(score))
        finally:
            reader.stop()
    return not signals


def _push(stream: Stream, sample: Sample, write: Callable[[Score, bool], None], note: Note) -> None:
    """Score one sample; where there are many machines, one that fails does not end the others."""
    scores = stream.push(sample)
    while True:
        try:
            score = next(scores, None)
        except Exception as error:
            if not sample.machine:
                raise
            stream.fail(sample)
            note(f"{sample.machine}: starts anew, its samples could not be scored: {error}")
            return
        if score is None:
            return
        write(score, stream.is_late(score))


class _Sources:
    """Lines of any number of topics to samples.

    Rules:
    1. Each topic has its own form of lines, its own kind of time and its own counts.
    2. The topic is the machine, unless a message names one and topics are not binding.
    3. A message may not name a machine as another topic is called.
    """

    def __init__(self, parser: SampleParser, counts: Counts, note: Note, bind_topics: bool) -> None:
        self._parser, self._counts, self._note = parser, counts, note
        self._bind_topics = bind_topics
        self._forms: dict[str, LineParser] = {}
        self._places: Places[str] = Places(MOST_MACHINES)
        self._is_untimed_noted = False

    def to_sample(self, line: Line) -> Sample | None:
        form = self._form(line.topic, line.arrived)
        if form is None:
            return None
        sample = form.to_sample(line.text, line.arrived)
        if sample is None:
            return None
        if sample.time is None and not self._is_untimed_noted:
            self._is_untimed_noted = True
            self._note("no time stamps: every sample is taken for one step")
        if line.topic and (self._bind_topics or not sample.machine):
            return sample._replace(machine=line.topic, is_topics=True)
        if line.topic and sample.machine != line.topic and sample.machine in self._forms:
            form.reject(f"the machine {sample.machine} is another topic.")
            return None
        return sample

    def finish(self) -> None:
        """The stream has ended.

        Raises:
            InputError: a source lacks a channel.
        """
        for form in self._forms.values():
            form.finish()

    def _form(self, topic: str, now: float) -> LineParser | None:
        form = self._forms.get(topic)
        if form is None:
            if len(topic) > LONGEST_NAME or (self._places.is_full and not self._make_place(now)):
                self._counts.too_many_machines += 1
                return None
            form = self._forms[topic] = LineParser(self._parser, self._counts, self._note, topic=topic)
        self._places.note(topic, now)
        return form

    def _make_place(self, now: float) -> bool:
        silent = self._places.find_silent(now)
        if silent is None:
            return False
        self._places.forget(silent)
        del self._forms[silent]
        return True


@contextmanager
def _stopped_by_signal(stop: Callable[[], None]) -> Iterator[list[int]]:
    """SIGINT and SIGTERM call `stop` once, then interrupt; handlers are restored afterwards."""
    if threading.current_thread() is not threading.main_thread():
        yield []
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
        yield seen
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
