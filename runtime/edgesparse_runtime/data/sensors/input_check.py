"""Can sensors in order give this window? Rules that need no learning; docs/guides/data.md, "Dead sensors".

A classifier gives one of its classes to every window, also to one whose sensor is dead. So each answer says
what is wrong with its window: too much missing, flat, stuck, clipped, out of range, or two channels swapped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from edgesparse_runtime.arrays import FloatArray
from edgesparse_runtime.data.channels import generic_names
from edgesparse_runtime.data.model_inputs import WindowData, WindowInputs
from edgesparse_runtime.data.sensors.channel_order import FEWEST_STEPS, ChannelOrder, read_order
from edgesparse_runtime.data.sensors.channel_order import FILE as ORDER
from edgesparse_runtime.data.tensors.batch import TensorInputs
from edgesparse_runtime.errors import InputError

# Share of a channel's steps that may be missing.
MOST_MISSING = 0.5
# Share of steps at the window's own largest or smallest value from which it is clipped.
CLIPPED = 0.2
# Share of steps in a row at one value, anywhere in the window, from which a channel is stuck.
STUCK = 0.25
# Channels with fewer values are switches and steps: they stand at their ends by nature.
FEWEST_VALUES = 9
# A window may lie this many widths of the training range outside of it.
FAR = 1.0
# Spread over the largest, or under the smallest, of training by this factor.
LOUDER, QUIETER = 10.0, 20.0
# Channels are swapped where each is this far from its own place and this near to the other's, in widths.
OWN_FAR, OTHER_NEAR = 1.0, 0.5


@dataclass(frozen=True)
class Typical:
    """What a channel is like in the training windows; `channels[].typical` of the manifest.

    Attributes:
        low, high: all but a hundredth of the values lie between them, on each side.
        spread_low, spread_high: smallest and largest standard deviation of a window, but for a hundredth.
        flat: share of windows in which it never moves.
        missing: share of its values that are missing.
        clipped: largest share of a window's steps at its largest or smallest value.
        stuck: largest share of a window's steps in a row at one value; 1 = not known, of older bundles.
    """

    low: float
    high: float
    spread_low: float
    spread_high: float
    flat: float = 0.0
    missing: float = 0.0
    clipped: float = 0.0
    stuck: float = 1.0

    def to_dict(self) -> dict[str, float]:
        return asdict(self)


@dataclass(frozen=True)
class Fault:
    """What is wrong with one channel of a window.

    Attributes:
        channel: its name; of swapped channels the first.
        kind: "missing", "flat", "stuck", "clipped", "out of range", "too strong", "too weak" or
            "swapped with NAME".
    """

    channel: str
    kind: str

    def __str__(self) -> str:
        return f"{self.channel}: {self.kind}"


class InputCheck:
    """Checks windows of one model.

    Args:
        channels: their names, in the model's order.
        typical: what each is like in training; None = unknown, then only missing, flat and clipped are seen.
        order: tells channels that were exchanged within one range; None = that is not looked for.
    """

    def __init__(
        self,
        channels: Sequence[str],
        typical: Sequence[Typical | None] = (),
        order: ChannelOrder | None = None,
    ) -> None:
        self.channels = tuple(channels)
        self.typical = tuple(typical) or (None,) * len(self.channels)
        self.order = order

    def check(self, window_CT: FloatArray) -> list[Fault]:
        """What is wrong with a window [channels, steps]; empty where nothing is."""
        faults = []
        facts = _Facts(window_CT)
        for i, (name, typical) in enumerate(zip(self.channels, self.typical, strict=False)):
            kind = _find_fault(facts, i, typical)
            if kind:
                faults.append(Fault(name, kind))
        return self._swapped(facts) or faults or self._exchanged(window_CT)

    def _exchanged(self, window_CT: FloatArray) -> list[Fault]:
        """Two channels of one range that each move as the other one should."""
        if self.order is None or window_CT.shape[1] < FEWEST_STEPS:
            return []
        pair = self.order.exchanged(window_CT)
        return [] if pair is None else [self._swap(*pair)]

    def _swap(self, first: int, second: int) -> Fault:
        return Fault(self.channels[first], f"swapped with {self.channels[second]}")

    def _swapped(self, facts: _Facts) -> list[Fault]:
        """Two channels that each lie where the other one should."""
        far = [
            i
            for i, typical in enumerate(self.typical)
            if typical is not None and _distance(float(facts.level[i]), typical) > OWN_FAR
        ]
        for i in far:
            for j in far[: far.index(i)]:
                a, b = self.typical[i], self.typical[j]
                assert a is not None and b is not None
                other = max(_distance(float(facts.level[i]), b), _distance(float(facts.level[j]), a))
                if other < OTHER_NEAR:
                    return [self._swap(j, i)]
        return []


class _Facts:
    """Figures of a window, one per channel."""

    missing: npt.NDArray[np.floating[Any]]
    high: npt.NDArray[np.floating[Any]]
    low: npt.NDArray[np.floating[Any]]
    level: npt.NDArray[np.floating[Any]]
    spread: npt.NDArray[np.floating[Any]]

    def __init__(self, window_CT: FloatArray) -> None:
        self.window = window_CT
        channels, steps = window_CT.shape
        # A server answers with these in its event loop: ufuncs, without what surrounds them in numpy's
        # functions, take a fifth of their time.
        if steps and np.isfinite(total := np.add.reduce(window_CT, axis=1, dtype=np.float64)).all():
            self.missing = np.zeros(channels)
            count = np.full(channels, steps)
            self.high, self.low = np.maximum.reduce(window_CT, axis=1), np.minimum.reduce(window_CT, axis=1)
            self.level = _median(window_CT)
            apart = window_CT - (total / steps)[:, None]
            self.spread = np.sqrt(np.einsum("ct,ct->c", apart, apart) / steps)
        else:
            known = ~np.isnan(window_CT)
            count = known.sum(axis=1)
            self.missing = 1.0 - count / max(1, steps)
            # A channel without a value has no figures: NaN.
            rows = [row[is_known] for row, is_known in zip(window_CT, known, strict=True)]
            figures = [
                (row.max(), row.min(), np.median(row), row.std(dtype=np.float64))
                if len(row)
                else (np.nan,) * 4
                for row in rows
            ]
            self.high, self.low, self.level, self.spread = np.array(figures).reshape(-1, 4).T
        ends = [
            max(np.count_nonzero(row == high), np.count_nonzero(row == low))
            for row, high, low in zip(window_CT, self.high, self.low, strict=True)
        ]
        self.at_end = np.array(ends, dtype=np.float64) / np.maximum(1, count)
        self.is_flat = (count > 1) & (self.high == self.low)

    def stuck(self, channel: int) -> float:
        """Share of the steps in the longest row of equal values."""
        return _longest_row(self.window[channel]) / max(1, int(self.window.shape[1]))

    def values(self, channel: int) -> int:
        """Different values of a channel."""
        return len(np.unique(self.window[channel]))


def _longest_row(values: FloatArray) -> int:
    """Steps of the longest row of equal values; missing ones are equal to none."""
    same = values[1:] == values[:-1]
    # Most channels never stay where they are for a quarter of the window, not even in pieces.
    if np.count_nonzero(same) < STUCK * len(values) - 1:
        return 1
    ends = np.flatnonzero(np.concatenate(([True], ~same, [True])))
    return int(np.diff(ends).max())


def _median(window_CT: FloatArray) -> FloatArray:
    """`np.median` over the steps of a window without missing values."""
    steps = window_CT.shape[1]
    low, high = (steps - 1) // 2, steps // 2
    ordered = np.partition(window_CT, (low, high) if low < high else low, axis=1)
    middle: FloatArray = (ordered[:, low] + ordered[:, high]) * np.float32(0.5)
    return middle


def _find_fault(facts: _Facts, i: int, typical: Typical | None) -> str:
    usual = typical or Typical(-np.inf, np.inf, 0.0, np.inf)
    if facts.missing[i] > max(MOST_MISSING, 1.5 * usual.missing):
        return "missing"
    if facts.is_flat[i]:
        # Some channels lie still by nature.
        return "" if usual.flat > 0.02 and _distance(facts.level[i], usual) <= FAR else "flat"
    if facts.at_end[i] >= max(CLIPPED, 1.5 * usual.clipped) and facts.values(i) >= FEWEST_VALUES:
        return "clipped"
    if typical is None:
        return ""
    stuck = facts.stuck(i)
    # A short window that is stuck has few values also where its channel is no switch.
    moves = typical.stuck <= STUCK or facts.values(i) >= FEWEST_VALUES
    if stuck >= max(STUCK, 1.5 * typical.stuck) and moves:
        return "stuck"
    if typical.spread_high > 0 and facts.spread[i] > LOUDER * typical.spread_high:
        return "too strong"
    if _distance(facts.level[i], typical) > FAR:
        return "out of range"
    if typical.flat <= 0.02 and facts.spread[i] * QUIETER < typical.spread_low:
        return "too weak"
    return ""


def _distance(level: float, typical: Typical) -> float:
    """How far outside of the training range, in its widths; 0 inside."""
    outside = max(typical.low - level, level - typical.high, 0.0)
    width = max(typical.high - typical.low, 1e-6 * max(abs(typical.low), abs(typical.high)), 1e-12)
    return float(outside / width)


def typical_of(windows: Sequence[FloatArray]) -> list[Typical | None]:
    """What each channel is like in these windows, each [channels, steps]; None where none has a value."""
    found: list[Typical | None] = []
    for channel in range(windows[0].shape[0] if len(windows) else 0):
        rows = [x[channel][~np.isnan(x[channel])] for x in windows]
        steps = sum(x.shape[1] for x in windows)
        rows = [row.astype(np.float64) for row in rows if len(row)]
        if not rows:
            found.append(None)
            continue
        values = np.concatenate(rows)
        spreads = np.array([row.std() for row in rows])
        low, high = np.quantile(values, [0.01, 0.99])
        at_end = max(max((row == row.max()).mean(), (row == row.min()).mean()) for row in rows)
        found.append(
            Typical(
                low=float(low),
                high=float(high),
                spread_low=float(np.quantile(spreads, 0.01)),
                spread_high=float(np.quantile(spreads, 0.99)),
                flat=float(np.mean([row.min() == row.max() for row in rows])),
                missing=float(1 - len(values) / max(1, steps)),
                clipped=float(at_end),
                stuck=max(_longest_row(x[channel]) / max(1, x.shape[1]) for x in windows),
            )
        )
    return found


def typical_of_manifest(manifest: Mapping[str, Any]) -> list[Typical | None]:
    """`channels[].typical`, where the manifest has it; anything but numbers counts as unknown."""
    found: list[Typical | None] = []
    names = {field.name for field in fields(Typical)}
    for channel in manifest.get("channels", ()):
        stored = channel.get("typical")
        known = {k: v for k, v in stored.items() if k in names} if isinstance(stored, dict) else {}
        is_whole = {"low", "high", "spread_low", "spread_high"} <= set(known)
        is_numbers = all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in known.values())
        found.append(Typical(**known) if is_whole and is_numbers else None)
    return found


class Opened(Protocol):
    """What is needed of a `Session`."""

    bundle: Any
    inputs: WindowInputs | TensorInputs

    @property
    def channels(self) -> tuple[str, ...] | None:
        """Names of its channels."""


def check_input(session: Opened, data: WindowData) -> list[list[Fault]]:
    """Per window, what looks wrong with its sensors; [] where nothing does.

    Raises:
        InputError: as `Session.predict`; the model takes no windows.
    """
    if isinstance(session.inputs, TensorInputs):
        raise InputError("The model takes named tensors; it has no windows.")
    check = input_check_of(session)
    return [check.check(window) for window in session.inputs.windows(data)]


def input_check_of(session: Opened) -> InputCheck:
    """The check of this model's windows, one by one."""
    names = session.channels or generic_names(getattr(session.inputs, "channel_count", None) or 0)
    if session.bundle is None:
        return InputCheck(names)
    return InputCheck(names, _typical(session.bundle), _order(session.bundle, len(names)))


def _order(bundle: Any, channels: int) -> ChannelOrder | None:
    """None of older bundles, and of those whose training windows did not tell."""
    if ORDER not in bundle.manifest["files"]:
        return None
    return read_order(bundle.read(ORDER), f"{bundle.path}: {ORDER}", channels)


def _typical(bundle: Any) -> list[Typical | None]:
    """What channels are like in training; of older bundles, in the golden windows."""
    known = typical_of_manifest(bundle.manifest)
    windows = bundle.golden().get("windows")
    if any(known) or windows is None or windows.ndim != 3:
        return known
    found = typical_of(list(windows))
    spread = np.nanstd(windows.astype(np.float64), axis=-1)
    if not bool((np.abs(spread - 1) < 1e-3).all()):
        return found
    # Random walks of spread 1, where the bundle was made without data: their values mean nothing.
    unknown = {"low": -np.inf, "high": np.inf, "spread_low": 0.0, "spread_high": np.inf}
    return [None if t is None else replace(t, **unknown) for t in found]
