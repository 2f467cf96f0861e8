"""Hostile sources of a stream: one of many must not end, silence or change the others, nor fill memory."""

from __future__ import annotations

import io
import json
import os
import random
import threading
import time
import tracemalloc
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest

from edgesparse_runtime.bundle.read import Bundle
from edgesparse_runtime.session import Session
from edgesparse_runtime.stream import Sample, SampleParser, Stream, StreamOptions
from edgesparse_runtime.stream.backlog import Backlog
from edgesparse_runtime.stream.counts import Counts
from edgesparse_runtime.stream.lines import MOST_COLUMNS, LineParser
from edgesparse_runtime.stream.live import run_live
from edgesparse_runtime.stream.network.broker import LONGEST_MESSAGE, BrokerAddress, _Subscriber
from edgesparse_runtime.stream.notes import MOST_NOTES, Notes
from edgesparse_runtime.stream.sample import Score
from edgesparse_runtime.stream.sources import Line
from edgesparse_runtime.stream.windows import WindowScorer
from edgesparse_runtime.stream.write import ScoreWriter

STEPS = 40
OPTIONS = StreamOptions(window=16, stride=8)


@pytest.fixture(scope="module")
def session(shared_bundle: Bundle) -> Session:
    return Session(shared_bundle, precision="float32", threads=1)


class Feed:
    """A source that has sent everything already."""

    def __init__(self, lines: Iterable[Line]) -> None:
        self.backlog: Backlog[Line] = Backlog(1 << 20)
        self.backlog.put(list(lines))
        self.backlog.close()

    def stop(self) -> None:
        pass


class Outcome:
    """What came of some lines: by machine the scores, and everything else."""

    def __init__(self, session: Session, lines: Iterable[Line] = (), form: str = "json", **how: Any) -> None:
        options = how.pop("options", OPTIONS)
        self.stream = Stream(session, options)
        self.counts = self.stream.counts
        self.parser = SampleParser(session, self.counts)
        self.notes: list[str] = []
        self.scores: dict[str, list[tuple[float, ...]]] = {}
        self.out = io.StringIO()
        writer = ScoreWriter(self.out, form, ("fast", "slow"))  # type: ignore[arg-type]

        def write(score: Score, is_late: bool) -> None:
            self.scores.setdefault(score.machine, []).append((score.time, *map(float, score.values)))
            writer.write(score, is_late)

        feed: Any = how.pop("feed", None) or Feed(lines)
        run_live(feed, self.stream, self.parser, write, note=self.notes.append, **how)


def clock(k: int) -> str:
    return f"2026-01-01T00:00:{k:02d}Z"


def sample(topic: str, k: int, **changes: Any) -> Line:
    """A good message of one topic, or one that differs."""
    record = {"time": clock(k), "current": np.sin(k / 3), "voltage": np.cos(k / 3 + len(topic)), **changes}
    return Line(json.dumps({key: value for key, value in record.items() if value is not ...}), 0.0, topic)


def good() -> list[Line]:
    return [sample(topic, k) for k in range(STEPS) for topic in ("plant/a", "plant/b")]


@pytest.fixture(scope="module")
def expected(session: Session) -> dict[str, list[tuple[float, ...]]]:
    scores = Outcome(session, good()).scores
    assert {name: len(rows) for name, rows in scores.items()} == {"plant/a": 4, "plant/b": 4}
    return scores


def years(stamp: str) -> list[Line]:
    return [sample("evil", k, time=stamp % k) for k in range(STEPS)]


HOSTILE: dict[str, list[Line]] = {
    "the last year, in another zone": years("9999-12-31T23:59:%02d-14:00"),
    "the first year, in another zone": years("0001-01-01T00:00:%02d+14:00"),
    "the last year": years("9999-12-31T23:59:%02dZ"),
    "numbers as times": [sample("evil", k, time=k) for k in range(STEPS)],
    "no times": [sample("evil", k, time=...) for k in range(STEPS)],
    "half a surrogate pair as a name": [sample("evil", k, machine="\ud800") for k in range(STEPS)],
    "the name of another topic": [sample("evil", k, machine="plant/a") for k in range(STEPS)],
    "a topic's name, far ahead": [
        sample("evil", k, machine="plant/b", time=f"2030-01-01T00:00:{k:02d}Z") for k in range(STEPS)
    ],
    "a thousand machines": [sample("evil", 1, machine=f"m{k}") for k in range(1200)],
    "names of 900 kB": [sample("evil", k, machine=f"{k}" + "x" * 900_000) for k in range(4)],
    "a control character as a name": [sample("evil", k, machine="\x1b]0;owned\a") for k in range(STEPS)],
    "a header of 90,000 columns": [Line("current,voltage" + ",k" * 90_000, 0.0, "evil")],
    "numbers of 5,000 digits": [Line('{"time": 1%s, "current": 1}' % ("0" * 5000), 0.0, "evil")] * 9,
    "nothing that can be read": [Line("\x00\ufffd" * 50, 0.0, "evil")] * 99,
    "values at the limit of float32": [sample("evil", k, current=3.4e38, voltage=-3.4e38) for k in range(40)],
    "nothing but missing values": [sample("evil", k, current=None, voltage=None) for k in range(STEPS)],
    "lines of four megabytes": [sample("evil", k, machine="x" * (4 << 20)) for k in range(2)],
    "a value of four megabytes": [sample("evil", 1, current=[0.0] * (1 << 20))],
    "four megabytes that are nothing": [Line("[" * (4 << 20), 0.0, "evil")] * 2,
    "a header that lacks a channel": [Line("time,current,speed", 0.0, "evil")] * 3,
}


@pytest.mark.parametrize("form", ["json", "csv"])
@pytest.mark.parametrize("name", HOSTILE)
def test_other_topics_score_the_same(
    session: Session, expected: dict[str, list[tuple[float, ...]]], name: str, form: str
) -> None:
    hostile = HOSTILE[name]
    lines = good()
    # Some before, so that a first line decides nothing for others, and the rest in between.
    mixed = hostile[:3] + [line for pair in zip(lines, hostile[3:], strict=False) for line in pair]
    mixed += lines[max(0, len(hostile) - 3) :] + hostile[3 + len(lines) :]
    outcome = Outcome(session, mixed, form)
    assert {topic: outcome.scores[topic] for topic in expected} == expected
    outcome.out.getvalue().encode("utf-8")


def test_names_without_end_are_bounded_and_change_nobody(
    session: Session, expected: dict[str, list[tuple[float, ...]]]
) -> None:
    """`EDGESPARSE_NAMES` of them, each in a topic and as a machine; `make prove-security` sets 100,000.

    The others have places: who comes first after a thousand gets one as those fall silent.
    """
    names = int(os.environ.get("EDGESPARSE_NAMES", "3000"))
    evil = [sample(f"evil/{k}", 1, machine=f"m{k}") for k in range(names)]
    lines, every = good(), names // (2 * STEPS)
    mixed = lines[:2]
    for k, line in enumerate(lines[2:]):
        mixed += [*evil[k * every : (k + 1) * every], line]
    # What the lines themselves take is there before.
    feed = Feed(mixed)
    tracemalloc.start()
    outcome = Outcome(session, feed=feed)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert {topic: outcome.scores[topic] for topic in expected} == expected
    assert peak <= 32 << 20


@pytest.mark.parametrize(("silence", "has_places"), [(61, True), (59, False)])
def test_a_flood_of_names_that_falls_silent_gives_its_places_up(
    session: Session, expected: dict[str, list[tuple[float, ...]]], silence: float, has_places: bool
) -> None:
    flood = [sample(f"evil/{k}", 0) for k in range(1000)]
    outcome = Outcome(session, flood + [line._replace(arrived=silence) for line in good()])
    found = {topic: rows for topic, rows in outcome.scores.items() if topic in expected}
    assert found == (expected if has_places else {})


def test_a_backlog_without_end_is_bounded_and_changes_nobody(
    session: Session, expected: dict[str, list[tuple[float, ...]]]
) -> None:
    """One source sends more than is taken, long lines and short ones, around each line of the others."""
    feed: Any = Feed([])
    feed.backlog = Backlog(100_000, most_bytes=2 << 20, on_drop=lambda topic: lost.append(topic))
    lost: list[str] = []

    def send() -> None:
        for line in good():
            feed.backlog.offer([Line("x" * 300_000, 0.0, "evil")] * 9)
            feed.backlog.offer([line])
            feed.backlog.offer([sample("evil", k) for k in range(STEPS)])
        feed.backlog.close()

    tracemalloc.start()
    source = threading.Thread(target=send)
    source.start()
    outcome = Outcome(session, feed=feed)
    source.join()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert {topic: outcome.scores[topic] for topic in expected} == expected
    assert set(lost) == {"evil"}
    assert peak <= 16 << 20


def test_all_places_taken_first_leave_one_for_each_topic(
    session: Session, expected: dict[str, list[tuple[float, ...]]]
) -> None:
    crowd = [sample("evil", 1, machine=f"m{k}") for k in range(1500)]
    outcome = Outcome(session, [*crowd, *good()])
    assert {topic: outcome.scores[topic] for topic in expected} == expected
    assert len(outcome.stream.periods) <= 1000


def test_a_machine_of_a_pipe_has_its_own_kind_of_time(session: Session) -> None:
    rows = [f"good,{clock(k)},{np.sin(k)},{k % 5}" for k in range(STEPS)]
    evil = [f"evil,{k},1,1" for k in range(STEPS)]
    header = "machine,time,current,voltage"
    alone = Outcome(session, [Line(line, 0.0) for line in [header, *rows]])
    mixed = [line for pair in zip(evil, rows, strict=True) for line in pair]
    both = Outcome(session, [Line(line, 0.0) for line in [header, *mixed]])
    assert len(alone.scores["good"]) == 4
    assert both.scores["good"] == alone.scores["good"]
    assert len(both.scores["evil"]) == 4 and both.counts.malformed == 0


def test_a_machine_that_cannot_be_scored_starts_anew(
    session: Session, expected: dict[str, list[tuple[float, ...]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    push = WindowScorer.push

    def fail(scorer: WindowScorer, step: Any) -> Any:
        if step.values[0] == 666:
            raise OverflowError("year 10000 is out of range")
        return push(scorer, step)

    monkeypatch.setattr(WindowScorer, "push", fail)
    evil = [sample("evil", k, current=666) for k in range(STEPS)]
    outcome = Outcome(
        session, [line for pair in zip(good(), evil, strict=False) for line in pair] + good()[40:]
    )
    assert {topic: outcome.scores[topic] for topic in expected} == expected
    assert outcome.counts.failed == outcome.counts.sources["evil"].failed > 0
    assert len(outcome.notes) <= MOST_NOTES + 1


def test_bound_topics_name_the_machine_whatever_a_message_says(session: Session) -> None:
    lines = [sample("evil", k, machine="press") for k in range(STEPS)]
    assert set(Outcome(session, lines).scores) == {"press"}
    assert set(Outcome(session, lines, bind_topics=True).scores) == {"evil"}


def test_each_source_has_its_own_counts(session: Session) -> None:
    outcome = Outcome(session, [*good(), *[Line("{", 0.0, "evil")] * 30])
    assert outcome.counts.sources["evil"].malformed == 30
    assert outcome.counts.sources["plant/a"].malformed == 0
    assert outcome.counts.sources["plant/a"].samples == STEPS


def test_a_flood_loses_only_its_own_lines_and_delays_nobody() -> None:
    lost: list[str] = []
    backlog: Backlog[Line] = Backlog(100, on_drop=lost.append)
    backlog.offer([Line(str(k), 0.0, "evil") for k in range(5_000)])
    backlog.offer([Line(str(k), 0.0, "plant/a") for k in range(20)])
    assert set(lost) == {"evil"}
    taken = backlog.take(0) or []
    assert [line.text for line in taken if line.topic == "plant/a"] == [str(k) for k in range(20)]
    # In rotation: the twentieth line of one is not behind all lines of the other.
    assert [line.topic for line in taken[:6]].count("plant/a") == 3


def test_the_backlog_is_bounded_in_bytes() -> None:
    lost: list[str] = []
    backlog: Backlog[Line] = Backlog(1 << 20, most_bytes=1 << 20, on_drop=lost.append)
    backlog.offer([Line("x" * 100_000, 0.0, "evil") for _ in range(40)])
    assert len(backlog.take(0) or []) <= 10
    assert len(lost) >= 30
    # Text of wide characters takes what it takes.
    backlog.offer([Line("\U0001f600" * 100_000, 0.0, "evil") for _ in range(40)])
    assert len(backlog.take(0) or []) <= 3


def test_topics_of_a_backlog_count_in_bytes() -> None:
    backlog: Backlog[Line] = Backlog(1 << 20, most_bytes=1 << 20)
    backlog.offer([Line("1", 0.0, f"{k}" + "x" * 60_000) for k in range(100)])
    assert len(backlog.take(0) or []) <= 17


def test_a_full_backlog_of_many_topics_is_as_fast_as_one_of_few() -> None:
    """A source with as many topics as there are places must not hold the others up at each line."""
    seconds = []
    for topics in (10, 5_000):
        backlog: Backlog[Line] = Backlog(5_000)
        backlog.offer([Line("x" * (k % 7), 0.0, f"{k % topics}") for k in range(5_000)])
        start = time.process_time()
        backlog.offer([Line("y", 0.0, f"{k}") for k in range(5_000)])
        seconds.append(time.process_time() - start)
    assert seconds[1] < 10 * seconds[0]


def test_the_topic_with_most_bytes_loses_its_newest_lines() -> None:
    """As a plain search would find it, whatever came and went before."""
    draw, lost = random.Random(0), list[str]()
    backlog: Backlog[Line] = Backlog(40, most_bytes=20_000, on_drop=lost.append)
    for _ in range(3_000):
        backlog.offer([Line("x" * draw.randrange(2_000), 0.0, str(draw.randrange(12)))])
        if draw.random() < 0.02:
            backlog.take(0)
        largest = max(backlog._bytes.values(), default=0)
        assert not backlog._bytes or backlog._bytes[backlog._largest()] == largest
    assert len({*lost}) == 12 and len(backlog._sizes) < 1_100


def test_a_message_is_bounded_in_bytes() -> None:
    counts, backlog = Counts(), Backlog[Line](100)
    address = BrokerAddress.parse("mqtt://127.0.0.1/t")
    subscriber = _Subscriber(address, backlog, counts, lambda text: None)

    class Message:
        topic = "evil"
        payload = b"{}\n" * (LONGEST_MESSAGE // 3 + 1)

    subscriber.on_message(None, None, Message)
    assert backlog.take(0) == [] and counts.sources["evil"].malformed == 1


def test_samples_of_one_moment_are_not_held_without_bound(session: Session) -> None:
    stream = Stream(session, StreamOptions(window=16, stride=8, lateness=0.5))
    values = np.zeros(2, dtype=np.float32)
    for k in range(STEPS):
        list(stream.push(Sample(values, float(k), 0.0, "evil")))
    for _ in range(5_000):
        list(stream.push(Sample(values, STEPS + 0.3, 0.0, "evil")))
    (track,) = stream._tracks.values()
    assert len(track.timeline._held) < 500
    assert stream.counts.early + stream.counts.duplicates > 4_000


def test_a_long_lateness_holds_a_bounded_number_of_bytes(session: Session) -> None:
    stream = Stream(session, StreamOptions(window=16, stride=8, period=0.001, lateness=3600.0))
    values = np.zeros(2, dtype=np.float32)
    for k in range(20_000):
        list(stream.push(Sample(values, k * 0.001, 0.0, "evil")))
    (track,) = stream._tracks.values()
    assert 400 * len(track.timeline._held) <= 4 << 20
    assert stream.counts.early > 0


def test_what_is_remembered_of_names_is_bounded(session: Session) -> None:
    counts = Counts()
    parser = SampleParser(session, counts)
    lines = LineParser(parser, counts, lambda text: None)
    for k in range(3_000):
        lines.to_sample(json.dumps({"machine": f"m{k}", "current": 1, "voltage": 1}), 0.0)
    assert len(parser._clocks) <= 1000 and len(counts.sources) <= 1001


def test_a_header_is_bounded(session: Session) -> None:
    counts = Counts()
    lines = LineParser(SampleParser(session, counts), counts, lambda text: None, topic="evil")
    lines.to_sample("current,voltage" + ",k" * MOST_COLUMNS, 0.0)
    assert counts.malformed == 1 and not lines._header


def test_notes_are_bounded_and_plain() -> None:
    seen: list[str] = []
    notes = Notes(seen.append)
    for _ in range(10_000):
        notes("\x1b[31m" + "x" * 10_000 + "\n")
    assert len(seen) == MOST_NOTES + 1
    assert all(text.isprintable() and len(text) < 2_000 for text in seen)


@pytest.mark.parametrize(
    "name", ["=HYPERLINK(1)", "+1+cmd|' /C calc'!A0", "@SUM(1)", "-1+1", "\x1b[2J", "a\nb,c"]
)
def test_a_name_is_no_syntax_in_csv(session: Session, name: str) -> None:
    outcome = Outcome(session, [sample("t", k, machine=name) for k in range(STEPS)], "csv")
    rows = outcome.out.getvalue().splitlines()
    assert len(rows) == 5
    cell = rows[1].split(",")[2].strip('"')
    assert cell.isprintable() and not cell.startswith(("=", "+", "-", "@"))


def test_two_classes_of_one_name_keep_both_scores() -> None:
    score = Score(np.array([0.25, 0.75], np.float32), 1.0, 0.0, 16, 0, 0.0, 0.0)
    for form in ("json", "csv"):
        out = io.StringIO()
        ScoreWriter(out, form, ("alarm", "alarm")).write(score, False)  # type: ignore[arg-type]
        assert "0.25" in out.getvalue() and "0.75" in out.getvalue()
