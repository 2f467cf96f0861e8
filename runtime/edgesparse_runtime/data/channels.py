"""Do the channels of some data fit the model?"""

from __future__ import annotations

import re

from edgesparse_runtime.data.series_set import SeriesSet
from edgesparse_runtime.errors import InputError

# Names that a reader gives when the file has none.
_GENERIC = re.compile(r"channel_\d+")


def generic_names(count: int) -> tuple[str, ...]:
    """channel_0, channel_1, ..."""
    return tuple(f"channel_{i}" for i in range(count))


def check_channels(data: SeriesSet, expected: tuple[str, ...]) -> SeriesSet:
    """`data` with its channels in the model's order.

    The same names in another order are put in order. Data without channel names fit by their count, and so
    do named data when the model was trained without names.

    Raises:
        InputError: other channels, or another number of them.
    """
    if data.channels == expected:
        return data
    if sorted(data.channels) == sorted(expected):
        order = [data.channels.index(name) for name in expected]
        units = tuple(data.units[i] for i in order) if data.units else ()
        return data.with_series([x[order] for x in data.series], channels=expected, units=units)
    unnamed = all(map(_GENERIC.fullmatch, data.channels)) or all(map(_GENERIC.fullmatch, expected))
    if unnamed and len(data.channels) == len(expected):
        return data.with_series(data.series, channels=expected)
    hint = f" Add --channels {','.join(expected)}." if set(expected) <= set(data.channels) else ""
    raise InputError(
        f"{data.source or 'The data'} must have the {len(expected)} channel(s) {_listed(expected)}; "
        f"got {len(data.channels)}: {_listed(data.channels)}.{hint}"
    )


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")
