"""Sparse against dense over length and density, on this machine: what `edgesparse breakeven` measures.

A cell times the sparse model and its dense twin, interleaved, on the same windows. A density is set with
`top_p` 1 and `max_blocks`; the row "as exported" keeps what the router keeps. Decisions are compared where
dense is faster, since only there would the runner switch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from edgesparse_runtime.bundle.manifest_types import BreakevenEntry, BreakevenRow
from edgesparse_runtime.bundle.read import Bundle, open_bundle
from edgesparse_runtime.dense_twin.density import block_count
from edgesparse_runtime.dense_twin.lookup import (
    LEAST_GAIN,
    MOST_FLIPPED,
    MOST_MOVED,
    describe_machine,
    find_limits,
    hash_of,
    twin_file,
)
from edgesparse_runtime.errors import InputError
from edgesparse_runtime.machine.memory_bounds import check_counts, check_spans
from edgesparse_runtime.machine.progress import Progress
from edgesparse_runtime.measure.equal_decisions import EqualDecisions, compare_decisions
from edgesparse_runtime.measure.inputs import Inputs
from edgesparse_runtime.measure.interleaved import find_ratio, time_interleaved
from edgesparse_runtime.session import Session

# Windows that decisions are compared on: 1 % of them are two.
COMPARED = 200
DENSITIES = (0.125, 0.25, 0.5)


@dataclass(frozen=True)
class BreakevenJob:
    """What to measure.

    Attributes:
        model: the bundle.
        precision: "float32" or "int8".
        threads: per prediction; None = what affinity and quota allow.
        batch: windows per call.
        lengths: steps per window; empty = the longest training window, its half, quarter and eighth.
        densities: shares of key blocks to keep, besides the model as exported.
        seconds: computing time per cell.
        data: file to take windows from; None = the golden windows.
    """

    model: str
    precision: str
    threads: int | None = None
    batch: int = 1
    lengths: list[int] = field(default_factory=list)
    densities: list[float] = field(default_factory=lambda: list(DENSITIES))
    seconds: float = 2.0
    data: str | None = None

    def __post_init__(self) -> None:
        check_counts({"--batch": self.batch, "--length": self.lengths, "--threads": self.threads})
        check_spans({"--seconds": self.seconds})
        if any(not 0 < d <= 1 for d in self.densities):
            raise InputError(f"`--density` must be above 0 and at most 1; got {self.densities}.")


Cell = tuple[int, float | None]
Done = dict[Cell, BreakevenRow]


def measure_breakeven(
    request: BreakevenJob,
    progress: Progress,
    *,
    done: Mapping[Cell, BreakevenRow] | None = None,
    on_row: Callable[[BreakevenRow], None] = lambda _: None,
) -> BreakevenEntry:
    """An entry of the manifest's `breakeven` for this machine.

    Args:
        progress: advances by each cell that is measured.
        done: rows by cell that an earlier run on this machine has measured.
        on_row: called with each new row as soon as it is measured.

    Raises:
        InputError: the bundle has no twin, or windows that the model does not accept.
    """
    bundle = open_bundle(request.model)
    if twin_file(bundle.manifest, request.precision) is None:
        raise InputError(f"{bundle.path} has no dense twin. Run `edgesparse breakeven --prepare` first.")
    dense = Session(bundle, precision=request.precision, threads=request.threads, attention="dense")
    table: list[BreakevenRow] = []
    engine = ""
    for cell in cells(bundle, request):
        knobs = _knobs(bundle, cell)
        sparse = Session(
            bundle, precision=request.precision, threads=request.threads, attention="sparse", **knobs
        )
        engine = sparse.engine
        row = None if done is None else done.get(cell)
        if row is None:
            row = _measure_cell(request, bundle, cell, sparse, dense)
            on_row(row)
            progress.advance(note=f"{cell[0]} steps, {row['winner']}")
        table.append(row)
    machine = describe_machine(dense.threads, engine)
    return BreakevenEntry(
        cpu=machine["cpu"],
        instruction_sets=machine["instruction_sets"],
        threads=machine["threads"],
        onnxruntime=machine["onnxruntime"],
        engine=engine,
        kernels=machine["kernels"],
        precision=request.precision,
        model=hash_of(bundle.manifest, request.precision),
        batch=request.batch,
        measured=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        dense_up_to=find_limits(table),
        table=table,
    )


def cells(bundle: Bundle, request: BreakevenJob) -> list[Cell]:
    """What is measured, short windows first; densities that short windows cannot resolve are left out."""
    lengths = sorted(set(request.lengths)) or default_lengths(bundle)
    found: list[Cell] = []
    for length in lengths:
        found.append((length, None))
        blocks, seen = block_count(bundle.manifest, length), set()
        for density in sorted(set(request.densities)):
            kept = _kept_blocks(density, blocks)
            if kept not in seen and abs(kept / blocks - density) <= 0.25 * density:
                found.append((length, density))
                seen.add(kept)
    return found


def default_lengths(bundle: Bundle) -> list[int]:
    """The longest training window, its half, quarter and eighth, as far as the model accepts them."""
    windows = bundle.manifest["input"]
    longest, least = int(windows["longest"]), int(windows.get("min_steps", 1))
    return sorted({longest // part for part in (1, 2, 4, 8) if longest // part >= least})


def _kept_blocks(density: float, blocks: int) -> int:
    return max(1, round(density * blocks))


def _knobs(bundle: Bundle, cell: Cell) -> dict[str, Any]:
    length, density = cell
    if density is None:
        return {}
    return {"top_p": 1.0, "max_blocks": _kept_blocks(density, block_count(bundle.manifest, length))}


def _measure_cell(
    request: BreakevenJob, bundle: Bundle, cell: Cell, sparse: Session, dense: Session
) -> BreakevenRow:
    length, density = cell
    data = None if request.data is None else Path(request.data)
    inputs = Inputs(sparse, batch=request.batch, length=length, data=data)
    chosen = sparse.selections(inputs.next())
    times = time_interleaved(sparse, dense, inputs.next, request.seconds)
    ratio = find_ratio(times)
    winner = "dense" if ratio.low >= LEAST_GAIN else "sparse" if ratio.high < 1.0 else "even"
    sparse_ms, dense_ms = (float(t) for t in np.median(times, axis=-1))
    compared = _compare_outputs(bundle, sparse, dense, length, data) if winner == "dense" else None
    return BreakevenRow(
        length=length,
        density=density,
        kept=_share_kept(chosen, is_causal=sparse.is_causal),
        sparse_ms=sparse_ms,
        dense_ms=dense_ms,
        ratio=ratio.value,
        low=ratio.low,
        high=ratio.high,
        rounds=times.shape[1],
        winner=winner,
        agrees=compared is None or _agree(compared),
        agreement=None if compared is None else asdict(compared),
    )


def _compare_outputs(
    bundle: Bundle, sparse: Session, dense: Session, length: int, data: Path | None
) -> EqualDecisions:
    windows = Inputs(sparse, batch=COMPARED, length=length, data=data).next()
    return compare_decisions(
        sparse.predict(windows, batch_size=1),
        dense.predict(windows, batch_size=1),
        has_classes=bool(bundle.classes),
    )


def _agree(found: EqualDecisions) -> bool:
    """Whether the dense twin may replace the sparse model."""
    if found.equal is None:
        return found.largest_difference <= MOST_MOVED * found.spread
    return 1.0 - found.equal <= MOST_FLIPPED


def _share_kept(selections: list[Any], *, is_causal: bool) -> float:
    """Blocks attended to, of those that may be."""
    kept = reachable = 0.0
    for selection in selections:
        blocks = selection.shape[-1]
        pairs = blocks * (blocks + 1) / 2 if is_causal else blocks * selection.shape[-2]
        kept += float(selection.sum())
        reachable += pairs * selection.shape[0] * selection.shape[1]
    return kept / max(reachable, 1.0)
