"""Places of sources: who is silent gives its place to who speaks."""

from __future__ import annotations

import pytest

from edgesparse_runtime.stream.places import ONCE_SILENT, SILENT, Places


def full(lines: int) -> Places[str]:
    places = Places[str](3)
    for turn in range(lines):
        for name in "abc":
            assert places.is_full == bool(turn)
            places.note(name, float(turn))
    return places


@pytest.mark.parametrize(("lines", "silence"), [(1, ONCE_SILENT), (2, SILENT), (5, SILENT)])
def test_the_longest_silent_gives_its_place_up(lines: int, silence: float) -> None:
    places, last = full(lines), lines - 1
    assert places.is_full
    assert places.find_silent(last + silence) is None
    assert places.find_silent(last + silence + 1) == "a"
    places.note("a", last + silence)
    assert places.find_silent(last + silence + 1) == "b"
    places.forget("b")
    assert not places.is_full
    assert places.find_silent(last + silence + 1) == "c"


def test_one_line_is_less_than_two() -> None:
    places = full(1)
    places.note("a", 0.0)
    places.note("b", 0.0)
    assert places.find_silent(ONCE_SILENT + 1) == "c"
    places.forget("c")
    assert places.find_silent(ONCE_SILENT + 1) is None
