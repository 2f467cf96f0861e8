"""Findings of streams: 7, 13, 24."""

from __future__ import annotations

from benchmarks.findings.box import Box, Outcome

_GOOD = b"".join(
    b'{"machine":"good","time":"2026-01-01T00:00:%02d","c":1}\n' % second for second in range(60)
)


def year_ten_thousand(box: Box) -> Outcome:
    """40 lines of one machine whose time lies in the year 10,000 before those of an honest machine."""
    lines = b"".join(
        b'{"machine":"evil","time":"9999-12-31T23:59:%02d-14:00","c":1}\n' % second for second in range(40)
    )
    ended = _follow(box, lines + _GOOD)
    scores = ended[0]
    return Outcome(scores == 0, f"exit {ended[1]}; {scores} scores of the honest machine")


def _follow(box: Box, data: bytes) -> tuple[int, int | None, int]:
    """Scores of the honest machine, the exit code, and peak memory."""
    path = box.bundle("m")
    ended = box.verb("run", path, "-", "--follow", "--window", 8, "--stride", 8, data=data, seconds=90)
    return ended.out.count('"good"'), ended.code, ended.memory


def long_names(box: Box) -> Outcome:
    """200 machines whose names are 900 kB long."""
    names = b"".join(
        b'{"machine":"%04d%s","time":"2026-01-01T00:00:00","c":1}\n' % (i, b"x" * 900_000) for i in range(200)
    )
    _, code, memory = _follow(box, names + _GOOD)
    _, _, usual = _follow(box, _GOOD)
    return Outcome(memory - usual > 150, f"exit {code}; {memory - usual} MB more than without them")


def topics_name_machines(box: Box) -> Outcome:
    """An option that holds a topic to its own machine: whether there is one (no broker is asked)."""
    ended = box.verb("run", "--help")
    return Outcome("--bind-topics" not in ended.out, "there" if "--bind-topics" in ended.out else "not there")


ATTACKS = {7: year_ten_thousand, 13: long_names, 24: topics_name_machines}
