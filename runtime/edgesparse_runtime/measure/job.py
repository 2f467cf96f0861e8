"""What `edgesparse profile` measures, checked before anything runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from edgesparse_runtime.errors import InputError
from edgesparse_runtime.machine.memory_bounds import check_counts, check_spans


@dataclass(frozen=True)
class Job:
    """One measurement, and what it is repeated with.

    Attributes:
        model: bundle or .onnx file.
        precision: "auto", "float32" or "int8".
        threads: per prediction; None = what affinity and quota allow.
        batch: windows per call.
        length: steps per window; None = that of the inputs.
        seconds: how long to time calls for (at least 20 calls).
        data: file to take windows from; None = the bundle's golden windows, or random walks.
        spec: how `data` are read, as `readers.spec.read_spec` gives it.
        modules: trace where the time goes.
        rates: windows per second to pace calls at, each for `seconds`.
        deadline: milliseconds allowed per paced call; None = until the next is due.
        soak_runs, soak_minutes: a long run with changing lengths.
        sweep_threads, sweep_batch, sweep_length: values to repeat with, one setting at a time.
    """

    model: str
    precision: str = "auto"
    threads: int | None = None
    batch: int = 1
    length: int | None = None
    seconds: float = 3.0
    data: str | None = None
    spec: dict[str, Any] = field(default_factory=dict)
    modules: bool = False
    rates: list[float] = field(default_factory=list)
    deadline: float | None = None
    soak_runs: int | None = None
    soak_minutes: float | None = None
    sweep_threads: list[int] = field(default_factory=list)
    sweep_batch: list[int] = field(default_factory=list)
    sweep_length: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        check_counts(
            {
                "--batch": self.batch,
                "--length": self.length,
                "--threads": self.threads,
                "--soak-runs": self.soak_runs,
                "--sweep-threads": self.sweep_threads,
                "--sweep-batch": self.sweep_batch,
                "--sweep-length": self.sweep_length,
            }
        )
        check_spans(
            {
                "--seconds": self.seconds,
                "--rate": self.rates,
                "--deadline": self.deadline,
                "--soak": self.soak_minutes,
            }
        )
        if self.deadline is not None and not self.rates:
            raise InputError("`--deadline` is for paced calls. Add --rate.")
