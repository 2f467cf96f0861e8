"""What most models take: `WindowInputs`, raw windows of channels. Named tensors are in tensors/.

Both lay data out for `Session` under one rule: an answer depends on its own input alone, not on what lies
beside it (docs/guides/data.md).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from edgesparse_runtime.arrays import FloatArray, IndexArray
from edgesparse_runtime.data.channels import check_channels
from edgesparse_runtime.data.float_array import to_float32
from edgesparse_runtime.data.series_set import SeriesSet
from edgesparse_runtime.errors import InputError

_WHAT = "Input `window`"
WindowData = SeriesSet | npt.ArrayLike | Sequence[npt.ArrayLike]


class WindowInputs:
    """Raw windows [channels, steps].

    Args:
        name: of the model, for messages.
        channel_count: None = any.
        channels: their names, where the model came in a bundle.
        min_steps: the shortest window that the model takes.
        masks_padding: the model was trained on series of different lengths, and masks what a shorter one is
            padded with. Any other model takes padding for missing values: lengths run apart.
    """

    def __init__(
        self,
        name: str,
        channel_count: int | None,
        channels: tuple[str, ...] | None = None,
        *,
        min_steps: int = 1,
        masks_padding: bool = False,
    ) -> None:
        self.name = name
        self.channel_count = channel_count
        self.channels = channels
        self.min_steps = min_steps
        self.masks_padding = masks_padding

    def __str__(self) -> str:
        return f"{self.channel_count} channel(s)"

    def lay_out(self, data: object) -> list[FloatArray]:
        """The windows [channels, steps] one by one, without the padding at their ends.

        Raises:
            InputError: not windows of the model's channels, too few steps, or infinite values.
        """
        windows = self.windows(data)
        return [without_padding(window, self.min_steps) for window in windows]

    def batch(self, data: object) -> FloatArray:
        """All windows as one array [n, channels, steps], shorter ones padded with NaN.

        Raises:
            InputError: as `lay_out`; lengths differ and the model does not mask padding.
        """
        windows = self.windows(data)
        if isinstance(windows, np.ndarray):
            return windows
        if len({x.shape[1] for x in windows}) > 1 and not self.masks_padding:
            raise InputError(
                f"Windows must have one length; {self.name} was trained on windows of one length and does "
                "not tell padding from missing values. Run each length by itself."
            )
        return _pad(windows)

    def parts(self, data: object, size: int) -> Iterator[tuple[IndexArray, FloatArray]]:
        """Batches of at most `size` windows that may share a run, each with the rows that it holds."""
        windows = self.windows(data)
        if self.masks_padding:
            batch = windows if isinstance(windows, np.ndarray) else _pad(windows)
            yield from _cut(np.arange(len(batch)), batch, size)
            return
        if isinstance(windows, np.ndarray) and not _has_padding(windows):
            yield from _cut(np.arange(len(windows)), windows, size)
            return
        windows = [without_padding(window, self.min_steps) for window in windows]
        lengths = np.array([x.shape[1] for x in windows])
        # In the order in which lengths first appear.
        for steps in dict.fromkeys(lengths.tolist()):
            rows = np.flatnonzero(lengths == steps)
            yield from _cut(rows, np.stack([windows[i] for i in rows]), size)

    def windows(self, data: object) -> FloatArray | list[FloatArray]:
        """The windows as they are, padding included: one array where they have one length, else a list.

        Raises:
            InputError: as `lay_out`.
        """
        # The class of batches of named tensors loads with models that take them.
        if isinstance(getattr(data, "arrays", data), Mapping):
            raise InputError(f"{self.name} takes windows [batch, channels, time]; got named arrays.")
        if isinstance(data, SeriesSet):
            series = data if self.channels is None else check_channels(data, self.channels)
            windows: FloatArray | list[FloatArray] = list(series.series)
            if len(series) and series.is_equal_length():
                windows = np.stack(series.series)
        else:
            windows = _to_windows(data)
        if isinstance(windows, np.ndarray):
            self._check(windows)
        else:
            for window in windows:
                self._check(window[None])
        return windows

    def _check(self, batch: FloatArray) -> None:
        if batch.ndim != 3 or (self.channel_count is not None and batch.shape[1] != self.channel_count):
            names = f" The model was trained on channels {', '.join(self.channels)}." if self.channels else ""
            raise InputError(
                f"Input `window` must have shape [batch, {self.channel_count}, time]; "
                f"got {list(batch.shape)}.{names}"
            )
        if batch.shape[2] < self.min_steps:
            raise InputError(
                f"Input `window` must have at least {self.min_steps} steps; got {batch.shape[2]}."
            )
        if np.isinf(batch).any():
            raise InputError("Input `window` must be finite; got infinity. Use NaN for a missing value.")


def without_padding(window_CT: FloatArray, min_steps: int = 0) -> FloatArray:
    """Without the steps at the end where every channel is NaN, but for the first `min_steps`."""
    if not window_CT.shape[1] or not np.isnan(window_CT[:, -1]).all():
        return window_CT
    seen = np.flatnonzero(~np.isnan(window_CT).all(axis=0))
    return window_CT[:, : max(min_steps, int(seen[-1]) + 1 if len(seen) else 0)]


def _to_windows(data: object) -> FloatArray | list[FloatArray]:
    if isinstance(data, (list, tuple)) and len({np.shape(x) for x in data if isinstance(x, np.ndarray)}) > 1:
        # Windows of different lengths.
        return [to_float32(x, _WHAT, "[channels, time]") for x in data]
    batch = to_float32(data, _WHAT, "[batch, channels, time]")
    return batch[None] if batch.ndim == 2 else batch


def _has_padding(batch_NCT: FloatArray) -> bool:
    """Whether a window ends in a step where every channel is NaN."""
    return bool(batch_NCT.shape[2]) and bool(np.isnan(batch_NCT[:, :, -1]).all(axis=1).any())


def _pad(windows: Sequence[FloatArray]) -> FloatArray:
    longest = max((x.shape[1] for x in windows), default=0)
    rows = windows[0].shape[0] if windows else 0
    batch = np.full((len(windows), rows, longest), np.nan, dtype=np.float32)
    for row, x in zip(batch, windows, strict=True):
        row[:, : x.shape[1]] = x
    return batch


def _cut(rows: IndexArray, batch: FloatArray, size: int) -> Iterator[tuple[IndexArray, FloatArray]]:
    for i in range(0, len(batch), size):
        yield rows[i : i + size], batch[i : i + size]
