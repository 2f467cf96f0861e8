"""One parser of times: each form that loggers write, what is refused, and which number is the day."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta, timezone
from decimal import Decimal

import numpy as np
import pytest

from edgesparse_runtime.data.clock import read_times, settle
from edgesparse_runtime.data.stream_clock import StreamClock
from edgesparse_runtime.errors import InputError

# 2024-01-30 13:00:00 UTC.
NOON = datetime(2024, 1, 30, 13, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    "text",
    [
        "2024-01-30T13:00:00Z",
        "2024-01-30T13:00:00.000000000Z",
        "2024-01-30 13:00:00",
        "2024-01-30T13:00",
        "2024-1-30 13:00:00,000",
        "2024/01/30 13:00:00",
        "2024.01.30 13:00:00",
        "20240130T130000",
        "20240130130000",
        "20240130 130000.0",
        "2024-01-30_13:00:00",
        "2024-01-30-130000",
        "2024-01-30T14:00:00+01:00",
        "2024-01-30 14:00 +0100",
        "2024-01-30T14:00:00+01:00[Europe/Berlin]",
        "2024-01-30 08:00:00 EST",
        "30/01/2024 13:00",
        "01/30/2024 01:00 PM",
        "1/30/24 1:00:00 PM",
        "1/30/24 1:00\u202fPM",
        "30.01.2024 13:00:00",
        "30-Jan-2024 13:00:00",
        "30 January 2024 13:00",
        "Jan 30, 2024, 1:00:00 p.m.",
        "Tue, 30 Jan 2024 13:00:00 GMT",
        "Tue Jan 30 14:00:00 CET 2024",
        "Tue Jan 30 2024 14:00:00 GMT+0100 (CET)",
        "2024年1月30日 13時00分00秒",
        "２０２４-01-30 13:00",
        b"2024-01-30 13:00",
        datetime(2024, 1, 30, 13, tzinfo=UTC),
        datetime(2024, 1, 30, 14, tzinfo=timezone(timedelta(hours=1))),
        datetime(2024, 1, 30, 13),
        np.datetime64("2024-01-30T13:00:00"),
        np.datetime64("2024-01-30T13:00:00.000", "ms"),
    ],
)
def test_every_form_is_the_same_time(text: object) -> None:
    clock, seconds = read_times([text])
    assert clock.is_calendar
    assert seconds.tolist() == [NOON]
    assert clock.seconds(text) == NOON


@pytest.mark.parametrize(
    ("values", "steps"),
    [
        # The cases of shared reports: zero milliseconds left out, no leading zero, thousands.
        (["2024-01-01T00:00:00Z", "2024-01-01T00:00:00.020Z"], [0.02]),
        (["9:59:12", "10:00:12"], [60.0]),
        (["980", "990", "1,000", "1,010"], [10.0] * 3),
        (["0,02", "0,04", "0,06"], [0.02] * 2),
        (["31-Jan-2024", "1-Feb-2024"], [86400.0]),
        (["2024-1-9", "2024-1-10"], [86400.0]),
        (["12:00 AM", "1:00 AM", "12:00 PM", "1:00 PM"], [3600.0, 39600.0, 3600.0]),
        (["59:59.5", "60:00.0"], [0.5]),
        (["23:59:60", "24:00:00"], [0.0]),
        (["125:30:10", "125:30:12"], [2.0]),
        (["1706619600000", "1706619600020"], [0.02]),
        (["1706619600000000", "1706619600020000"], [0.02]),
        ([1706619600.0, 1706619600.5], [0.5]),
        (["45321.5416667", "45321.5416782"], [0.99]),
        (["1.5e1", "16"], [1.0]),
        ([Decimal("1.5"), Decimal("1.75")], [0.25]),
        ([timedelta(seconds=1), timedelta(seconds=1.5)], [0.5]),
        ([np.timedelta64(1, "ms"), np.timedelta64(3, "ms")], [0.002]),
        ([time(9, 59), time(10, 0)], [60.0]),
        # A day that both readings know: only one of them has the recording run on over midnight.
        (["05/06/2024 23:59:59", "06/06/2024 00:00:00"], [1.0]),
        (["06/05/2024 23:59:59", "06/06/2024 00:00:00"], [1.0]),
        (["24/01/30 23:59:59", "24/01/31 00:00:00"], [1.0]),
        (["05/06/2024 10:00:00", "05/06/2024 10:00:01"], [1.0]),
        (["12/01/2024 00:00", "13/01/2024 00:00"], [86400.0]),
    ],
)
def test_distances_are_right(values: list[object], steps: list[float]) -> None:
    _, seconds = read_times(values)
    np.testing.assert_allclose(np.diff(seconds), steps, atol=5e-3)


@pytest.mark.parametrize(
    ("name", "unit"),
    [("ms", 1e-3), ("time_ms", 1e-3), ("t [s]", 1.0), ("Time (sec)", 1.0), ("t_us", 1e-6), ("time", 1.0)],
)
def test_a_column_name_states_the_unit(name: str, unit: float) -> None:
    clock = settle(["20", "40"], name=name)
    assert (clock.unit, clock.has_unit) == (unit, name != "time")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["2024-01-30", "oops"], "row 3: time must be a time; got 'oops'."),
        (["2024-01-30", ""], "row 3: time must be a time; got ''. A row without a time has no place"),
        (["1", "NaT"], "row 3: time must be a time; got 'NaT'."),
        (["1_000"], "got '1_000'"),
        (["٣"], "got "),
        (["2024-02-30"], "got '2024-02-30'"),
        (["25:00 pm"], "got '25:00 pm'"),
        (["2024-01-30 13:00:00 CST"], "got '2024-01-30 13:00:00 CST'"),
        ([True], "got True"),
        ([float("inf")], "got inf"),
        (["1", "2024-01-30"], "row 3: time must be of one form, as '1' before it; got '2024-01-30'."),
        (["2024-01-30 13:00", "2024-01-30 13:00Z"], "must be of one form"),
        (["30/01/2024", "01/30/2024"], "row 3: time must be dates of one order; got '01/30/2024' after"),
        (["01/02/2024", "02/02/2024"], "row 2: time must tell the day from the month; '01/02/2024' to"),
        (["1,000", "1,010"], "'1,000' may be a thousand or a decimal"),
        ([object()], "must be a time"),
    ],
)
def test_what_is_no_time_is_refused_with_its_place(values: list[object], message: str) -> None:
    if values[0] == "٣":
        # Digits of another script are normalized only where the plain ones are meant.
        values = ["٣x"]
    with pytest.raises(InputError) as caught:
        read_times(values, place=lambda i: f"row {i + 2}")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_stream_settles_its_form_at_the_first_time() -> None:
    clock = StreamClock()
    assert clock.seconds("30/01/2024 13:00:00.5") == NOON + 0.5
    # Settled by the first: day first.
    assert clock.seconds("01/02/2024 13:00:00") == NOON + 2 * 86400
    with pytest.raises(InputError, match="of the same form as those before it; got 17"):
        clock.seconds(17)
    with pytest.raises(InputError, match="must tell the day from the month; '01/02/2024 13:00'"):
        StreamClock().seconds("01/02/2024 13:00")
    assert StreamClock(order="mdy").seconds("01/30/2024 13:00") == NOON
    with pytest.raises(InputError, match="`--time-unit` states"):
        StreamClock("s").seconds(1706619600000)
    assert StreamClock().seconds(1706619600000) == NOON
    assert StreamClock("ms").seconds("1706619600000") == NOON


def test_times_of_day_run_on_over_midnight() -> None:
    clock = StreamClock()
    texts = ["23:59:58", "23:59:59", "00:00:00", "23:59:59.5", "00:00:01", "12:00:00", "23:59:59", "0:00:01"]
    seconds = [clock.seconds(text) - 86400 for text in texts]
    assert seconds == [-2, -1, 0, -0.5, 1, 43200, 86399, 86401]
