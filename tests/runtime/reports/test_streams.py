"""Lines of streams that have a report's trait; docs/reports.md."""

from __future__ import annotations

import numpy as np
import pytest

from edgesparse_runtime.bundle.read import Bundle
from edgesparse_runtime.data.grid import estimate_period
from edgesparse_runtime.errors import InputError
from edgesparse_runtime.session import Session
from edgesparse_runtime.stream import Counts, Sample, SampleParser
from edgesparse_runtime.stream.lines import LineParser


@pytest.fixture(scope="module")
def session(shared_bundle: Bundle) -> Session:
    return Session(shared_bundle, precision="float32", threads=1)


def parse(session: Session, *lines: str, unit: str | None = None) -> tuple[list[Sample], Counts, list[str]]:
    counts, warnings = Counts(), []
    parser = LineParser(SampleParser(session, counts, time_unit=unit), counts, warnings.append)
    samples = [sample for line in lines if (sample := parser.to_sample(line, 0.0)) is not None]
    return samples, counts, warnings


HEADER, TABBED = "time,current,voltage", "time;current;voltage"


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param((HEADER, "0,1.5,2", "1,2.5,3"), id="plain"),
        # pola-rs/polars#18797
        pytest.param((TABBED, "0,0;1,5;2", "1,0;2,5;3"), id="decimal comma"),
        pytest.param((TABBED, "0;1,50000;2", "1;2,5;3,000"), id="decimal comma, then three digits"),
        # alexcaza/export-to-csv#43
        pytest.param(("sep=;", TABBED, "0;1.5;2", "1;2.5;3"), id="a delimiter named in the first line"),
        # azavea/django-queryset-csv#71
        pytest.param(("\ufeff\u00ef\u00bb\u00bf" + HEADER, "0,1.5,2", "1,2.5,3"), id="marks before a name"),
        pytest.param(("time\u200b,current,voltage", "0,1.5,2", "1,2.5,3"), id="an invisible character"),
        # ngscopeclient/scopehal#408
        pytest.param(("# a, b", "#", HEADER, "0,1.5,2", "1,2.5,3"), id="comments before the header"),
        pytest.param(("#" + HEADER, "0,1.5,2", "1,2.5,3"), id="a header behind a mark"),
        # scikit-learn/scikit-learn#7242
        pytest.param(("voltage,time,current", "2,0,1.5", "3,1,2.5"), id="columns in another order"),
        # flysight/flysight-2-firmware#61
        pytest.param((HEADER + ",", "0,1.5,2,", "1,2.5,3,"), id="a delimiter after every line"),
        # jomjol/AI-on-the-edge-device#1739
        pytest.param(
            (HEADER + ",status", "0,1.5,2,no error", "1,2.5,3,ok"), id="a text column beside the values"
        ),
    ],
)
def test_value(session: Session, lines: tuple[str, ...]) -> None:
    samples, counts, warnings = parse(session, *lines)
    assert [sample.time for sample in samples] == [0, 1]
    np.testing.assert_array_equal(np.stack([sample.values for sample in samples]), [[1.5, 2], [2.5, 3]])
    assert not warnings
    assert counts.malformed == counts.bad_cells == 0


def test_points_between_thousands(session: Session) -> None:
    """pola-rs/polars#18797: a point is no decimal one after a line that has shown both."""
    samples, _, warnings = parse(session, TABBED, "0;1.299,99;2,5", "1;1.299;2,5")
    assert [sample.values[0] for sample in samples] == pytest.approx([1299.99, 1299.0])
    samples, counts, warnings = parse(session, TABBED, "0;12,5;2,5", "1;1.299;2,5")
    assert np.isnan(samples[1].values[0])
    assert counts.bad_cells == len(warnings) == 1


@pytest.mark.parametrize(
    ("cell", "shown"),
    [
        # pandas-dev/pandas#38420
        pytest.param("1,2,3", "'1,2,3'", id="two commas"),
        pytest.param("1a.2", "'1a.2'", id="letters inside"),
        pytest.param("1,299", "'1,299'", id="a thousand or a decimal"),
        pytest.param("1_000", "'1_000'", id="an underscore"),
    ],
)
def test_a_lost_cell_is_told_at_once(session: Session, cell: str, shown: str) -> None:
    samples, counts, warnings = parse(session, TABBED, f"0;{cell};2", f"1;{cell};2")
    assert [np.isnan(sample.values).tolist() for sample in samples] == [[True, False]] * 2
    assert counts.bad_cells == 2
    assert warnings == [
        f"a cell is scored as missing: current must be a number; got {shown}. Further ones are only counted."
    ]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        # flysight/flysight-2-firmware#61
        pytest.param(
            ("1,2,", "3,4,"), "must not start with an empty last cell", id="delimiters without a header"
        ),
        # myokit/myokit#1090
        pytest.param(("time,time,current,voltage",), "must have time once", id="two times"),
        pytest.param(("time,current,current,voltage",), "must have each channel once", id="a channel twice"),
        # vshulcz/deja-vu#2102
        pytest.param(
            ("time_ms,current,voltage",), "Give --time-column 'time_ms' --time-unit ms.", id="a unit"
        ),
        pytest.param(("Time (us),current,voltage",), "--time-unit us", id="a unit in brackets"),
        pytest.param(("time [min],current,voltage",), "Convert it to seconds", id="minutes"),
        # PlotJuggler/PlotJuggler#734
        pytest.param(
            ("Logger,X7,1", HEADER), "current, voltage is missing from Logger, X7, 1", id="metadata"
        ),
    ],
)
def test_refusal(session: Session, lines: tuple[str, ...], message: str) -> None:
    with pytest.raises(InputError) as caught:
        parse(session, *lines)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("name", "unit"), [("time [s]", None), ("time_ms", "ms"), ("Time (us)", "us"), ("timestamp", None)]
)
def test_a_time_with_its_unit_is_one(session: Session, name: str, unit: str | None) -> None:
    """vshulcz/deja-vu#2102: the stream was taken as one without times."""
    samples, _, _ = parse(session, f"{name},current,voltage", "20,1,2", "40,3,4", unit=unit)
    factor = {"ms": 1e-3, "us": 1e-6}.get(unit or "", 1.0)
    assert [sample.time for sample in samples] == pytest.approx([20 * factor, 40 * factor])
    samples, _, _ = parse(session, "cycle_time_ms,current,voltage", "20,1,2")
    assert samples[0].time is None


def test_epochs_of_two_units(session: Session) -> None:
    """vshulcz/deja-vu#2102."""
    samples, counts, warnings = parse(session, HEADER, "1706619600,1,2", "1706619601000,3,4")
    assert len(samples) == counts.malformed == 1
    assert "A time stamp must lie within 1e+11 seconds; got '1706619601000'" in warnings[0]


def test_a_key_twice(session: Session) -> None:
    """myokit/myokit#1090, as an object."""
    samples, _, warnings = parse(session, '{"time":0,"current":1,"current":7,"voltage":2}')
    assert not samples
    assert "A line must have each key once; current is in it twice" in warnings[0]


def test_a_sensor_that_is_absent_loses_itself_alone(session: Session) -> None:
    """beestat/app#245: the whole set was dropped."""
    samples, _, _ = parse(session, '{"time":0,"current":1}', '{"time":1,"voltage":2,"current":1}')
    assert [np.isnan(sample.values).tolist() for sample in samples] == [[False, True], [False, False]]
    samples, _, _ = parse(session, HEADER + ",status", "0,,2,error: no reading", "1,1,,", "2,,,")
    assert [np.isnan(sample.values).tolist() for sample in samples] == [
        [True, False],
        [False, True],
        [True, True],
    ]


@pytest.mark.parametrize("rate", [60, 80, 256, 400, 600, 1000])
def test_rounded_times_have_the_true_rate(rate: int) -> None:
    """OxWearables/stepcount#51, as a stream sees it: 32 samples."""
    times = [int(i * 1000 / rate) / 1000 for i in range(32)]
    assert estimate_period(times) == pytest.approx(1 / rate, rel=0.05)
