"""Ranges of activations, observed while real windows run through the model, our operators included.

onnxruntime's calibrators keep every tensor of every window until the end and open the model without an
operator library. Here each window's tensors are folded at once into ranges and histograms of fixed size, and
the session is opened as the device opens it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime

from edgesparse_runtime.engine import register
from edgesparse_runtime.errors import InputError

Method = Literal["minmax", "entropy", "percentile"]
FloatArray = npt.NDArray[np.float32]
Histogram = npt.NDArray[np.int64]

BINS = 2048
# Share of the values that "percentile" keeps inside, half of the rest on each side.
PERCENTILE = 0.9999
# Steps of an 8-bit type on one side of zero, which "entropy" compares with.
LEVELS = 128


class TensorRange:
    """Running minimum, maximum and histogram of one tensor; its size never changes.

    The histogram spans [-reach, reach]. A value beyond doubles the reach as often as needed; each time, two
    bins become one.
    """

    def __init__(self) -> None:
        self.low = 0.0
        self.high = 0.0
        self.reach = 0.0
        self.counts: Histogram = np.zeros(BINS, np.int64)

    def add(self, values: FloatArray) -> None:
        """Fold in one window's values; those that are not finite are left out."""
        flat = values.ravel()
        flat = flat[np.isfinite(flat)]
        if not flat.size:
            return
        self.low, self.high = min(self.low, float(flat.min())), max(self.high, float(flat.max()))
        largest = max(-self.low, self.high)
        if self.reach == 0.0:
            self.reach = largest
        if self.reach == 0.0:
            self.counts[BINS // 2] += flat.size
            return
        while largest > self.reach:
            self._double()
        self.counts += np.histogram(flat, bins=BINS, range=(-self.reach, self.reach))[0]

    def _double(self) -> None:
        merged = self.counts.reshape(BINS // 2, 2).sum(axis=1)
        self.counts = np.zeros(BINS, np.int64)
        self.counts[BINS // 4 : 3 * BINS // 4] = merged
        self.reach *= 2.0

    def range(self, method: Method) -> tuple[float, float]:
        """Lowest and highest value to represent; zero always lies within."""
        if method == "minmax" or self.reach == 0.0:
            return self.low, self.high
        limit = self._percentile() if method == "percentile" else self._entropy()
        return max(self.low, limit[0]), min(self.high, limit[1])

    def _percentile(self) -> tuple[float, float]:
        edges = np.linspace(-self.reach, self.reach, BINS + 1)
        share = np.cumsum(self.counts) / self.counts.sum()
        outside = (1.0 - PERCENTILE) / 2
        low = edges[np.searchsorted(share, outside, side="right")]
        high = edges[min(BINS, int(np.searchsorted(share, 1.0 - outside)) + 1)]
        return min(0.0, float(low)), max(0.0, float(high))

    def _entropy(self) -> tuple[float, float]:
        """The symmetric range whose clipped and quantized distribution is nearest (Kullback-Leibler)."""
        half = BINS // 2
        sizes = self.counts[half:] + self.counts[:half][::-1]
        best, bound = np.inf, half
        for bins in range(LEVELS, half + 1, 8):
            divergence = _divergence(sizes, bins)
            if divergence < best:
                best, bound = divergence, bins
        limit = self.reach * bound / half
        return -limit, limit


def _divergence(sizes: Histogram, bins: int) -> float:
    """KL divergence of the first `bins` sizes, the rest clipped into them, from their LEVELS-step form."""
    inside = sizes[:bins].astype(np.float64)
    clipped = inside.copy()
    clipped[-1] += sizes[bins:].sum()
    step = np.arange(bins) * LEVELS // bins
    occupied = inside > 0
    total = np.bincount(step, inside, LEVELS)
    count = np.bincount(step, occupied, LEVELS)
    spread = np.where(occupied, (total / np.maximum(count, 1))[step], 0.0)
    if spread.sum() == 0:
        return float("inf")
    # A value that is clipped into an empty last bin has no counterpart in the quantized form.
    p, q = clipped / clipped.sum(), np.maximum(spread / spread.sum(), 1e-12)
    seen = p > 0
    return float((p[seen] * np.log(p[seen] / q[seen])).sum())


def observe_ranges(
    model: onnx.ModelProto, tensors: Iterable[str], windows: Iterable[FloatArray], method: Method
) -> dict[str, tuple[float, float]]:
    """Ranges of `tensors` over windows [channels, time], one at a time.

    Raises:
        InputError: no windows.
    """
    ranges = {name: TensorRange() for name in dict.fromkeys(tensors)}
    session = _session(model, list(ranges))
    seen = 0
    for window in windows:
        for name, values in zip(ranges, session.run(list(ranges), {"window": window[None]}), strict=True):
            ranges[name].add(values)
        seen += 1
    if not seen:
        raise InputError("Static ranges need at least one window. Give `--data FILE` with series.")
    return {name: found.range(method) for name, found in ranges.items()}


def _session(model: onnx.ModelProto, tensors: list[str]) -> onnxruntime.InferenceSession:
    """The model with `tensors` as outputs, run by the operator library where it loads."""
    opened = onnx.ModelProto()
    opened.CopyFrom(model)
    known = {output.name for output in opened.graph.output}
    for name in tensors:
        if name not in known:
            opened.graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.inter_op_num_threads = 1
    register(options)
    return onnxruntime.InferenceSession(
        opened.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
