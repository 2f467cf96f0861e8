"""Exchanged channels of one range are named, windows in order are not."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from edgesparse.config import ModelConfig, RunConfig
from edgesparse.training.run_folder import load_run
from edgesparse.training.train import train
from edgesparse.unknown.channel_order import fit_order
from edgesparse_export.run_bundle import export_run
from edgesparse_runtime.arrays import FloatArray
from edgesparse_runtime.data.sensors.channel_order import (
    ChannelOrder,
    figures_of,
    orders_of,
    pairs_of,
    read_order,
)
from edgesparse_runtime.data.sensors.input_check import check_input
from edgesparse_runtime.data.series_set import SeriesSet
from edgesparse_runtime.errors import BundleError, InputError
from edgesparse_runtime.session import Session

STEPS = 120
AXES = ("x", "y", "z")


def recorded(count: int, seed: int, gain: float = 1.0, level: float = 0.0) -> SeriesSet:
    """Three axes in one range: y follows x late, z is rougher; the two classes move at different speeds."""
    rng = np.random.default_rng(seed)
    labels = np.array(["slow", "fast"])[np.arange(count) % 2]
    series = []
    for label in labels:
        at = np.arange(STEPS) * (0.1 if label == "slow" else 0.3) + rng.uniform(0, 6)
        noise = rng.standard_normal((3, STEPS))
        x = np.stack([np.sin(at), 0.8 * np.sin(at - 0.5), 0.4 * np.cos(at)]) + [[0.1], [0.1], [0.5]] * noise
        series.append((gain * x + level).astype(np.float32))
    return SeriesSet(series, AXES, labels)


def packed(arrays: dict[str, npt.NDArray[np.float64]]) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, allow_pickle=False, **arrays)
    return stream.getvalue()


def swapped(x: FloatArray, i: int, j: int) -> FloatArray:
    y = x.copy()
    y[[i, j]] = y[[j, i]]
    return y


@pytest.fixture(scope="module")
def order() -> ChannelOrder:
    found = fit_order(recorded(60, 0))
    assert found is not None
    assert found[1].windows == 60
    assert found[1].found > 0.9
    return found[0]


def test_exchanged_axes_are_named(order: ChannelOrder) -> None:
    for x in recorded(20, 1).series:
        assert order.exchanged(x) is None
        for i, j in pairs_of(3):
            assert order.exchanged(swapped(x, i, j)) == (i, j)


def test_another_machine_and_windows_of_nothing_known_are_not_exchanged(order: ChannelOrder) -> None:
    assert [order.exchanged(x) for x in recorded(20, 2, gain=1.3, level=0.5).series] == [None] * 20
    rng = np.random.default_rng(0)
    for x in (np.zeros((3, STEPS)), 1e6 * rng.standard_normal((3, STEPS)), np.full((3, STEPS), np.nan)):
        assert order.exchanged(x.astype(np.float32)) is None


def test_values_that_float32_cannot_square_tell_nothing(order: ChannelOrder) -> None:
    data = recorded(60, 0)
    assert fit_order(data.with_series([x * np.float32(1e25) for x in data.series])) is None
    assert order.exchanged(data.series[0] * np.float32(1e25)) is None


def test_missing_values_stand_at_the_mean(order: ChannelOrder) -> None:
    x = recorded(1, 3).series[0]
    x[1, 20:40] = np.nan
    assert order.exchanged(x) is None
    assert order.exchanged(swapped(x, 0, 2)) == (0, 2)


@pytest.mark.parametrize("channels", [2, 3, 5])
def test_figures_of_an_exchanged_window_are_the_same_ones_in_another_order(channels: int) -> None:
    x = np.random.default_rng(0).standard_normal((channels, 50)).cumsum(axis=1).astype(np.float32)
    orders, figures = orders_of(channels), figures_of(x, 1e-6)
    assert figures.shape == (channels * (channels + 3),)
    np.testing.assert_array_equal(figures[orders[0]], figures)
    for order, (i, j) in zip(orders[1:], pairs_of(channels), strict=True):
        np.testing.assert_allclose(figures[order], figures_of(swapped(x, i, j), 1e-6), rtol=1e-5, atol=1e-6)


def test_nothing_is_fitted_to_what_does_not_tell() -> None:
    data = recorded(60, 0)
    alike = np.random.default_rng(0).standard_normal((60, 3, STEPS)).astype(np.float32)
    assert fit_order(data.with_series(list(alike))) is None
    assert fit_order(data.take(np.arange(10))) is None
    assert fit_order(SeriesSet([x[:1] for x in data.series], ("x",), data.labels)) is None
    assert fit_order(data.with_series([x[:, :5] for x in data.series])) is None
    assert fit_order(data.with_series([np.zeros_like(x) for x in data.series])) is None


def test_a_file_keeps_it_and_a_damaged_one_is_refused(order: ChannelOrder) -> None:
    again = read_order(order.to_bytes(), "here", 3)
    for x in recorded(5, 4).series:
        for y in (x, swapped(x, 0, 1)):
            assert again.exchanged(y) == order.exchanged(y)
    for content in (
        b"no archive",
        packed({"weight": order.weight}),
        packed({"weight": order.weight * np.nan, "centers": order.centers, "scalars": np.ones(3)}),
    ):
        with pytest.raises(BundleError, match="here"):
            read_order(content, "here", 3)
    with pytest.raises(BundleError, match="4 channels"):
        read_order(order.to_bytes(), "here", 4)


def test_a_bundle_names_exchanged_channels(tmp_path: Path) -> None:
    config = RunConfig(model=ModelConfig(layers=0))
    run = train(recorded(60, 0), config, tmp_path / "run", quiet=True)
    assert run.report["channel_order"]["found"] > 0.9
    bundle, _ = export_run(run.path, tmp_path / "x.edgesparse")
    test = recorded(8, 1)
    back = test.with_series([swapped(x, 0, 2) for x in test.series])
    session = Session(bundle)
    assert check_input(session, test) == [[]] * 8
    assert [[str(fault) for fault in found] for found in check_input(session, back)] == [
        ["x: swapped with z"]
    ] * 8
    (run.path / "channel_order.npz").write_bytes(b"no archive")
    with pytest.raises(InputError, match="Train again"):
        load_run(run.path)
