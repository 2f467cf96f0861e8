"""WAV recordings: whole numbers of 8, 16, 24 or 32 bits, as -1 to 1."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgesparse_runtime.data.channels import generic_names
from edgesparse_runtime.data.readers.options import ReadOptions
from edgesparse_runtime.data.readers.table import Table, as_column, check_free_memory
from edgesparse_runtime.data.readers.tables import to_series
from edgesparse_runtime.data.series_set import SeriesSet
from edgesparse_runtime.errors import InputError

TIME = "time [s]"
# A value as float64, its bytes in the file, and a copy.
_VALUE_BYTES = 20


def read_wav(path: Path, options: ReadOptions) -> SeriesSet:
    """Read a WAV file."""
    return to_series(read_wav_table(path), options)


def read_wav_table(path: Path) -> Table:
    """A column of times, from 0 s, and one for each channel.

    Raises:
        InputError: no WAV file, compressed, of floats, or cut off.
    """
    try:
        with wave.open(str(path), "rb") as file:
            channels, width, rate, frames = file.getparams()[:4]
            check_free_memory(path, f"{frames} samples", frames * channels * _VALUE_BYTES)
            content = file.readframes(frames)
    except (wave.Error, EOFError, RuntimeError) as error:
        reason = str(error) or "it is cut off"
        raise InputError(
            f"{path} must be a WAV file of whole numbers (PCM); {reason}. Save it as 16-bit PCM."
        ) from None
    have = len(content) // (channels * width)
    if have < frames:
        raise InputError(
            f"{path} must hold {frames} samples, as its header states; it holds {have}: it is cut off."
        )
    if not frames or rate <= 0:
        raise InputError(f"{path} must hold samples at a rate; got {frames} at {rate} Hz.")
    values = _to_unit(content, width).reshape(-1, channels)
    columns = {TIME: as_column(np.arange(frames) / rate)}
    columns |= {name: as_column(x) for name, x in zip(generic_names(channels), values.T, strict=True)}
    return Table(path, columns, range(1, frames + 1))


def _to_unit(content: bytes, width: int) -> npt.NDArray[np.float64]:
    """Samples over the full scale of their width; 8 bits have no sign."""
    if width == 1:
        return (np.frombuffer(content, np.uint8).astype(np.float64) - 128) / 128
    if width == 3:
        # The three bytes are the upper ones of four.
        padded = np.zeros((len(content) // 3, 4), np.uint8)
        padded[:, 1:] = np.frombuffer(content, np.uint8).reshape(-1, 3)
        content, width = padded.tobytes(), 4
    values: npt.NDArray[np.float64] = np.frombuffer(content, f"<i{width}").astype(np.float64)
    scaled: npt.NDArray[np.float64] = values / 2 ** (8 * width - 1)
    return scaled
