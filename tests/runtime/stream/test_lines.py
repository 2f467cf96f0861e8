"""Text to samples, the bounded backlog, and sources that grow, turn over and end."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pytest

from edgesparse_runtime.bundle.read import Bundle
from edgesparse_runtime.errors import EdgeSparseError, InputError
from edgesparse_runtime.session import Session
from edgesparse_runtime.stream import Counts, Sample, SampleParser
from edgesparse_runtime.stream.backlog import Backlog
from edgesparse_runtime.stream.lines import LineParser
from edgesparse_runtime.stream.network.broker import BrokerAddress, read_broker
from edgesparse_runtime.stream.sources import Line, LineSplitter, follow_file


@pytest.fixture(scope="module")
def session(shared_bundle: Bundle) -> Session:
    return Session(shared_bundle, precision="float32", threads=1)


def parse(session: Session, *lines: str) -> tuple[list[Sample], Counts, list[str]]:
    counts, warnings = Counts(), []
    parser = LineParser(SampleParser(session, counts), counts, warnings.append)
    samples = [sample for line in lines if (sample := parser.to_sample(line, 0.0)) is not None]
    return samples, counts, warnings


@pytest.mark.parametrize(
    "lines",
    [
        ("time,current,voltage", "5,1,2", "6,3,"),
        ("t;voltage;noise;current\r\n", "5;2;9;1\r\n", "6;;9;3\r\n"),
        ("voltage\tcurrent\ttimestamp", "2\t1\t5", "nan\t3\t6"),
        ("\ufefftime,current,voltage", "", '5,"1",2', "6,3,null"),
        ("5,1,2", "6,3,nan"),
        ('{"time": 5, "current": 1, "voltage": 2}', '{"time": 6, "current": 3}'),
        ('{"time": "5", "current": "1", "voltage": 2}', '{"time": 6, "current": 3, "voltage": null}'),
    ],
)
def test_every_form_of_line_gives_the_same_samples(session: Session, lines: tuple[str, ...]) -> None:
    samples, counts, _ = parse(session, *lines)
    assert [sample.time for sample in samples] == [5, 6]
    np.testing.assert_array_equal(np.stack([sample.values for sample in samples]), [[1, 2], [3, np.nan]])
    assert counts.malformed == 0


def test_lines_without_a_time_and_with_a_machine(session: Session) -> None:
    assert [sample.time for sample in parse(session, "1,2", "3,4")[0]] == [None, None]
    samples = parse(session, "machine,current,voltage", "saw,1,2", "press,1,2")[0]
    assert [sample.machine for sample in samples] == ["saw", "press"]
    assert parse(session, '{"device": 7, "current": 1}')[0][0].machine == "7"
    times = parse(session, "2026-01-01T00:00:00Z,1,2", "2026-01-01 00:00:01Z,3,4")[0]
    assert times[1].time - times[0].time == 1.0  # type: ignore[operator]


@pytest.mark.parametrize(
    "bad",
    [
        "7,1",
        "7,1,2,3",
        "soon,1,2",
        "7,x,y",
        ",1,2",
        "inf,1,2",
        "current is off",
        "1e308,1,2",
        "1767225600000,1,2",
        '7,"1,2',
        "x" * 2_000_000,
    ],
)
def test_a_bad_line_is_counted_and_the_stream_goes_on(session: Session, bad: str) -> None:
    samples, counts, warnings = parse(session, "time,current,voltage", "5,1,2", bad, bad, "6,3,4")
    assert [sample.time for sample in samples] == [5, 6]
    assert counts.malformed == 2
    assert len(warnings) <= 1


@pytest.mark.parametrize(
    "bad",
    [
        "[1, 2]",
        "{",
        "7,1,2",
        '{"time": 1}',
        '{"current": [1], "time": 1}',
        '{"current": 1}',
        "{" * 100_000,
        '{"time": {}, "current": 1}',
        '{"time": 1e999, "current": 1}',
        '{"time": 1%s, "current": 1}' % ("0" * 400),
        '{"time": 1, "current": 1%s}' % ("0" * 400),
        '{"time": 1, "current": 1%s}' % ("0" * 5000),
        '{"time": 1, "current": 1, "machine": {"a": 1}}',
    ],
)
def test_a_bad_json_line_is_counted_and_the_stream_goes_on(session: Session, bad: str) -> None:
    good = '{"time": %d, "current": 1, "voltage": 2}'
    samples, counts, warnings = parse(session, good % 5, bad, good % 6)
    assert [sample.time for sample in samples] == [5, 6]
    assert counts.malformed == 1 and len(warnings) == 1


def test_a_header_that_lacks_a_channel_is_refused(session: Session) -> None:
    with pytest.raises(InputError, match="voltage is missing from time, current, speed"):
        parse(session, "time,current,speed")
    with pytest.raises(InputError, match=r"must have 2 column\(s\) \(current, voltage\), or one more"):
        parse(session, "1,2,3,4")


def test_a_header_may_come_again_and_in_another_order(session: Session) -> None:
    """A log that was rotated by a program that writes its columns otherwise."""
    again = (
        "time,current,voltage",
        "5,1,2",
        "time,current,voltage",
        "6,3,4",
        "time,voltage,current",
        "7,6,5",
    )
    again = (*again, "time,noise,current,voltage", "8,0,7,8")
    samples, counts, warnings = parse(session, *again)
    assert [sample.values.tolist() for sample in samples] == [[1, 2], [3, 4], [5, 6], [7, 8]]
    assert counts.malformed == 0 and not warnings
    with pytest.raises(InputError, match="voltage is missing from time, current, speed"):
        parse(session, "time,current,voltage", "5,1,2", "time,current,speed")
    with pytest.raises(InputError, match="current is in its header twice"):
        parse(session, "time,current,voltage,current")


@pytest.mark.parametrize(
    "first", ["offline", "online,2", "\ufffd\ufffd\0", "a\rb", "1,2,3,4,5", "time,current,speed"]
)
def test_one_source_of_many_cannot_end_the_others(session: Session, first: str) -> None:
    """A device's last will, or rubbish, on one of the topics of a broker."""
    counts, warnings = Counts(), []
    parser = LineParser(SampleParser(session, counts), counts, warnings.append, topic="line/press")
    lines = [first, "time,current,voltage", "5,1,2", "time,current,speed", "7,8,9,9,9", "8,1,2"]
    samples = [sample for line in lines if (sample := parser.to_sample(line, 0.0)) is not None]
    assert [sample.time for sample in samples] == [5, 8]
    assert counts.malformed == 3 and len(warnings) == 1


def test_rubbish_before_the_first_line_is_counted(session: Session) -> None:
    samples, counts, _ = parse(session, "a\rb", "5,1,2")
    assert [sample.time for sample in samples] == [5]
    assert counts.malformed == 1


def test_a_number_too_large_for_float32_is_missing(session: Session) -> None:
    samples, counts, _ = parse(session, '{"time": 1, "current": 1%s, "voltage": 2}' % ("0" * 60))
    assert np.isnan(samples[0].values[0])
    assert counts.not_finite == 1


def test_lines_are_whole_whatever_the_chunks() -> None:
    text = "".join(f"{k},ä{k}\n" for k in range(50)).encode()
    for size in (1, 2, 7, 4096):
        splitter = LineSplitter()
        lines = [line.text for i in range(0, len(text), size) for line in splitter.split(text[i : i + size])]
        assert lines == [f"{k},ä{k}" for k in range(50)]
        assert splitter.rest() == []
    assert [line.text for line in splitter.split(b"a\nb")] == ["a"]
    assert [line.text for line in splitter.rest()] == ["b"]


def test_a_full_backlog_makes_a_patient_source_wait_and_loses_nothing() -> None:
    backlog: Backlog[Line] = Backlog(10)
    sizes = []

    def produce() -> None:
        for i in range(0, 2_000, 50):
            backlog.put([Line(str(k), 0.0) for k in range(i, i + 50)])
        backlog.close()

    thread = threading.Thread(target=produce, daemon=True)
    thread.start()
    taken: list[int] = []
    while (items := backlog.take(1.0)) is not None:
        sizes.append(len(items))
        taken += [int(line.text) for line in items]
    thread.join(5)
    assert taken == list(range(2_000))
    assert max(sizes) <= 10


def test_a_full_backlog_counts_what_an_impatient_source_loses() -> None:
    lost: list[str] = []
    backlog: Backlog[Line] = Backlog(3, on_drop=lost.append)
    backlog.offer([Line("1", 0.0), Line("2", 0.0)])
    assert not lost
    backlog.offer([Line(text, 0.0) for text in "345"])
    assert len(lost) == 2
    assert [line.text for line in backlog.take(0) or []] == ["1", "2", "3"]
    assert backlog.take(0) == []


def test_a_source_that_fails_says_so_after_what_it_read() -> None:
    backlog: Backlog[Line] = Backlog(3)
    backlog.put([Line("1", 0.0)])
    backlog.close(OSError("gone"))
    assert backlog.take(0) == [Line("1", 0.0)]
    with pytest.raises(OSError, match="gone"):
        backlog.take(0)


def test_a_file_is_followed_through_growth_rotation_and_truncation(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    backlog: Backlog[Line] = Backlog(100)
    counts = Counts()
    thread = threading.Thread(target=follow_file, args=(path, backlog, counts), daemon=True)
    thread.start()
    # Logs are often created after their reader.
    path.write_text("1\n2\n3")

    def take(expected: list[str]) -> None:
        seen: list[str] = []
        until = time.monotonic() + 10
        while len(seen) < len(expected) and time.monotonic() < until:
            seen += [line.text for line in backlog.take(0.1) or []]
        assert seen == expected

    take(["1", "2"])
    with path.open("a") as stream:
        stream.write("4\n5\n")
    take(["34", "5"])
    path.rename(tmp_path / "log.1.csv")
    path.write_text("6\n")
    take(["6"])
    path.write_text("")
    # The reader must have seen it empty: a file truncated and grown again between two checks is not noticed.
    until = time.monotonic() + 10
    while counts.reopened < 2 and time.monotonic() < until:
        time.sleep(0.01)
    with path.open("a") as stream:
        stream.write("7\n")
    take(["7"])
    assert counts.reopened == 2
    backlog.close()
    thread.join(5)
    assert not thread.is_alive()


def test_broker_addresses() -> None:
    address = BrokerAddress.parse("mqtt://reader@host:1884/line/+/press/#?qos=1")
    assert (address.host, address.port, address.topic) == ("host", 1884, "line/+/press/#")
    assert (address.user, address.qos, address.tls) == ("reader", 1, False)
    assert BrokerAddress.parse("mqtts://h/t").port == 8883
    for bad in (
        "mqtt://h",
        "mqtt:///t",
        "http://h/t",
        "mqtt://u:p@h/t",
        "mqtt://h/t?qos=3",
        "mqtt://h:99999/t",
    ):
        with pytest.raises(InputError):
            BrokerAddress.parse(bad)


def test_a_broker_that_is_not_there_is_one_clear_line() -> None:
    pytest.importorskip("paho.mqtt.client")
    with pytest.raises(
        EdgeSparseError, match=r"127\.0\.0\.1:9: cannot connect to the broker; .* Is it running"
    ):
        read_broker(BrokerAddress.parse("mqtt://127.0.0.1:9/t"), Backlog(1), Counts(), lambda _: None)
