"""Two models with interleaved calls on the same inputs: how fast, and how often they decide the same."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgesparse_runtime.data.tensors.batch import TensorBatch
from edgesparse_runtime.errors import InputError
from edgesparse_runtime.machine.memory_bounds import check_counts, check_spans
from edgesparse_runtime.measure.equal_decisions import EqualDecisions, compare_decisions
from edgesparse_runtime.measure.inputs import Inputs
from edgesparse_runtime.measure.interleaved import find_ratio, time_interleaved
from edgesparse_runtime.session import Session

# Windows that decisions are compared on: 1 % of them are two. Fewer of long windows: as many as take so long.
COMPARED, LEAST_COMPARED = 200, 20
COMPARING_MS = 10_000.0


@dataclass(frozen=True)
class Comparison:
    """Latencies in milliseconds.

    Attributes:
        ratio: median latency of A over that of B: above 1, B is faster.
        low: lower end of the ratio's 95 % bootstrap interval.
        high: upper end.
        rounds: calls of each.
        a_p50, a_p99, b_p50, b_p99: latencies.
        a_engine, b_engine: what ran attention.
        length: steps per window.
        batch: windows per call.
        threads: of each.
        inputs: where the windows came from.
        equal: share of windows with the same decision; None where their classes differ.
        compared: windows that the answers were compared on; 0 where the scores have different shapes.
        largest_difference: of any score; None where the shapes differ.
        cosine: mean over the vectors along the last axis, of models that take named tensors; None for others.
    """

    ratio: float
    low: float
    high: float
    rounds: int
    a_p50: float
    a_p99: float
    b_p50: float
    b_p99: float
    a_engine: str
    b_engine: str
    length: int
    batch: int
    threads: int
    inputs: str
    equal: float | None
    compared: int
    largest_difference: float | None
    cosine: float | None = None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def compare(
    a: Session,
    b: Session,
    *,
    length: int | None = None,
    batch: int = 1,
    seconds: float = 5.0,
    data: Path | None = None,
) -> Comparison:
    """Time interleaved calls of A and B on the same windows, and compare their outputs.

    Args:
        length: steps per window; None = that of the inputs.
        seconds: computing time to measure for, at least 20 rounds.
        data: a data file to take windows from; None = A's golden windows, else B's, or random walks.

    Raises:
        InputError: their inputs or numbers of threads differ, or a number is not above 0.
    """
    check_counts({"--batch": batch, "--length": length})
    check_spans({"--seconds": seconds})
    if a.takes_tensors != b.takes_tensors or a.channel_count != b.channel_count:
        raise InputError(
            f"A and B must have the same channels; A has {_inputs_of(a)}, B has {_inputs_of(b)}."
        )
    if a.threads != b.threads:
        raise InputError(f"A and B must run on the same number of threads; got {a.threads} and {b.threads}.")
    source = b if a.bundle is None and b.bundle is not None else a
    inputs = Inputs(source, batch=batch, length=length, data=data)
    times = time_interleaved(a, b, inputs.next, seconds)
    ratio = find_ratio(times)
    (a_p50, a_p99), (b_p50, b_p99) = (np.percentile(t, [50, 99]) for t in times)
    cosine: float | None = None
    if a.takes_tensors:
        agreement, cosine = _compare_tensors(a, b, inputs.golden)
    else:
        count = compared_count((a_p50 + b_p50) / batch)
        agreement = _compare_answers(a, b, Inputs(source, length=length, data=data), count)
    return Comparison(
        ratio=ratio.value,
        low=ratio.low,
        high=ratio.high,
        rounds=times.shape[1],
        a_p50=float(a_p50),
        a_p99=float(a_p99),
        b_p50=float(b_p50),
        b_p99=float(b_p99),
        a_engine=a.engine_at(inputs.length),
        b_engine=b.engine_at(inputs.length),
        length=inputs.length,
        batch=batch,
        threads=a.threads,
        inputs=inputs.source,
        equal=None if agreement is None else agreement.equal,
        compared=0 if agreement is None else agreement.n,
        largest_difference=None if agreement is None else agreement.largest_difference,
        cosine=cosine,
    )


def _compare_tensors(
    a: Session, b: Session, golden: TensorBatch
) -> tuple[EqualDecisions | None, float | None]:
    """How near the outputs are, one row at a time: those of long texts are large."""
    largest, low, high = 0.0, np.inf, -np.inf
    cosines: list[float] = []
    for i in range(len(golden)):
        row = golden[i : i + 1]
        first, second = (np.asarray(s.predict(row), dtype=np.float64) for s in (a, b))
        if first.shape != second.shape:
            return None, None
        largest = max(largest, float(np.abs(first - second).max(initial=0.0)))
        low, high = min(low, float(first.min())), max(high, float(first.max()))
        product = (first * second).sum(-1)
        lengths = np.linalg.norm(first, axis=-1) * np.linalg.norm(second, axis=-1)
        near = (product / np.maximum(lengths, np.finfo(np.float64).tiny)).ravel()
        mask = golden.arrays.get("attention_mask")
        is_real = np.ones(near.shape, bool) if mask is None or mask[i].size != near.size else mask[i] > 0
        cosines.append(float(near[is_real].mean()))
    return EqualDecisions(len(golden), None, largest, high - low), float(np.mean(cosines))


def compared_count(milliseconds: float) -> int:
    """Windows to compare the answers on, where both models together need so long for one."""
    return int(np.clip(COMPARING_MS / max(milliseconds, 1e-3), LEAST_COMPARED, COMPARED))


def _compare_answers(a: Session, b: Session, inputs: Inputs, count: int) -> EqualDecisions | None:
    # One window at a time: dense attention over long windows needs memory by the square of their length.
    pairs = [(a.predict(window), b.predict(window)) for window in (inputs.next() for _ in range(count))]
    scores = np.concatenate([first for first, _ in pairs]), np.concatenate([second for _, second in pairs])
    if scores[0].shape != scores[1].shape:
        return None
    classes = [s.bundle.classes for s in (a, b) if s.bundle is not None]
    # A bare file does not name its scores; next to a bundle they are taken to be of the same classes.
    decides = bool(classes) and all(c and c == classes[0] for c in classes)
    return compare_decisions(*scores, has_classes=decides)


def _inputs_of(session: Session) -> str:
    return str(session.inputs)
