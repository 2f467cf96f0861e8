"""Windows of a large .npz archive stay in the file and are what reading it whole gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from edgesparse_runtime.data.readers import ReadOptions, read_dataset
from edgesparse_runtime.data.readers.forms import npz_windows
from edgesparse_runtime.data.readers.forms.npz_windows import NpzWindows
from edgesparse_runtime.data.series_set import SeriesSet
from edgesparse_runtime.errors import InputError


@pytest.fixture(autouse=True)
def _every_archive_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(npz_windows, "LARGE", 1)
    monkeypatch.setattr(npz_windows, "LEAST", 100)
    # A few windows to a block.
    monkeypatch.setattr(npz_windows, "BLOCK", 3 * 4 * 200)


def made(dtype: str = "<f4", channels: int = 2, steps: int = 100) -> npt.NDArray[np.generic]:
    values = 50 * np.random.default_rng(0).standard_normal((11, channels, steps))
    return np.asarray(values).astype(dtype)


def read_both(path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[SeriesSet, SeriesSet]:
    stored = read_dataset(path)
    assert isinstance(stored.series, NpzWindows)
    with monkeypatch.context() as patch:
        patch.setattr(npz_windows, "LARGE", 1 << 60)
        whole = read_dataset(path)
    assert isinstance(whole.series, list)
    return stored, whole


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f8", "<i2", "|b1"])
def test_a_stored_set_is_the_one_that_is_read_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str
) -> None:
    x = made(dtype)
    if x.dtype.kind == "f":
        # Shorter series, the first and the last among them, and a missing value.
        for row, steps in ((0, 60), (4, 99), (10, 1)):
            x[row, :, steps:] = np.nan
        x[2, 1, 5] = np.nan
    labels, groups = np.array(list("abcabcabcab")), np.arange(11) % 3
    np.savez(tmp_path / "x.npz", y=labels, X=x, group=groups, channels=np.array(["u", "i"]))
    stored, whole = read_both(tmp_path / "x.npz", monkeypatch)
    assert stored.lengths == whole.lengths
    assert stored.channels == whole.channels
    for name in ("labels", "groups", "recordings", "starts"):
        np.testing.assert_array_equal(getattr(stored, name), getattr(whole, name))
    assert stored.grid == whole.grid
    assert stored.notes[:-1] == whole.notes
    assert "they are not held in memory" in stored.notes[-1]
    for a, b, c in zip(stored.series, whole.series, map(stored.series.__getitem__, range(11)), strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(c, b)
    np.testing.assert_array_equal(stored.to_batch(), whole.to_batch())


def test_rows_come_in_the_order_that_is_asked_for(tmp_path: Path) -> None:
    x = made(channels=1)
    np.savez(tmp_path / "x.npz", X=x[:, 0], y=np.arange(11) % 2)
    data = read_dataset(tmp_path / "x.npz")
    part = data.take([7, 8, 9, 2, 2, 0]).take([5, 0, 1, 4])
    assert isinstance(part.series, NpzWindows)
    np.testing.assert_array_equal(part.series.read(np.arange(4)), x[[0, 7, 8, 2]])
    np.testing.assert_array_equal(part.to_batch(), x[[0, 7, 8, 2]])
    np.testing.assert_array_equal(part.labels, ["0", "1", "0", "0"])
    np.testing.assert_array_equal(part.series[1:][-1], x[2])
    with pytest.raises(IndexError):
        part.series[4]


def test_what_cannot_be_read_in_parts_is_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = made(), np.arange(11) % 2
    np.savez(tmp_path / "fortran.npz", X=np.asfortranarray(x), y=y)
    np.savez_compressed(tmp_path / "compressed.npz", X=x, y=y)
    np.savez(tmp_path / "mask.npz", X=x, y=y, mask=np.zeros(x.shape, bool))
    np.savez(tmp_path / "short.npz", X=x[:, :, :8], y=y)
    np.savez(tmp_path / "plain.npz", X=x, y=y)
    for name in ("fortran", "compressed", "mask", "short"):
        assert isinstance(read_dataset(tmp_path / f"{name}.npz").series, list), name
    cut = read_dataset(tmp_path / "plain.npz", ReadOptions(window=50))
    assert isinstance(cut.series, list)
    assert len(cut) == 22
    monkeypatch.setattr(npz_windows, "LARGE", x.nbytes + 1000)
    assert isinstance(read_dataset(tmp_path / "plain.npz").series, list)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.nan, "series 6 must hold at least one value; all are missing."),
        (np.inf, "series 6, channel channel_0 must be finite; got infinity."),
    ],
)
def test_bad_windows_are_refused(tmp_path: Path, value: float, message: str) -> None:
    x = made()
    x[5] = value  # type: ignore[call-overload]
    np.savez(tmp_path / "x.npz", X=x, y=np.arange(11) % 2)
    with pytest.raises(InputError, match=message):
        read_dataset(tmp_path / "x.npz")


def test_labels_must_fit_and_codes_are_noted(tmp_path: Path) -> None:
    x = made()
    x[3, 1, 7] = -9999  # type: ignore[call-overload]
    np.savez(tmp_path / "x.npz", X=x, y=np.arange(11) % 2)
    assert "channel channel_1 holds -9999" in " ".join(read_dataset(tmp_path / "x.npz").notes)
    np.savez(tmp_path / "x.npz", X=x, y=np.arange(10))
    with pytest.raises(InputError, match=r"y must have shape \[11\]; got \[10\]"):
        read_dataset(tmp_path / "x.npz")


def test_a_file_that_is_cut_short_meanwhile_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, X=made(), y=np.arange(11) % 2)
    data = read_dataset(path)
    path.write_bytes(path.read_bytes()[:4000])
    with pytest.raises(InputError, match="must stay as it is while it is read; it was cut short"):
        data.to_batch()
