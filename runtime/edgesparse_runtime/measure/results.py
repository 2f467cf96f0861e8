"""What a measurement found, as one object that travels as JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from edgesparse_runtime.machine.throttling import Conditions
from edgesparse_runtime.measure.environment import Environment
from edgesparse_runtime.measure.modules import Module
from edgesparse_runtime.measure.paced_load import Paced
from edgesparse_runtime.measure.soak import Soak


@dataclass(frozen=True)
class Profile:
    """Times in milliseconds, memory in MB (2**20 bytes).

    Attributes:
        model: path.
        precision: that ran.
        engine: what ran attention.
        why: why the dense twin runs or does not (docs/concepts/break-even.md).
        threads: per prediction.
        batch: windows per call.
        length: steps per window.
        precision_why: why this precision runs; "" = unknown.
        window: steps of the model's training windows; None = unknown, or of different lengths.
        inputs: where the windows came from.
        calls: how many were timed.
        p50, p90, p95, p99, max, mean: latency of a call.
        first: the first call after loading.
        load: opening the model.
        memory_before: peak memory of the process before the model is loaded.
        memory_peak: peak memory after all calls.
    """

    model: str
    precision: str
    engine: str
    why: str
    threads: int
    batch: int
    length: int
    inputs: str
    calls: int
    p50: float
    p90: float
    p95: float
    p99: float
    max: float
    mean: float
    first: float
    load: float
    memory_before: float
    memory_peak: float
    window: int | None = None
    precision_why: str = ""

    @property
    def memory_model(self) -> float:
        """Peak memory above the bare runner."""
        return self.memory_peak - self.memory_before

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Trace:
    """Events of a few traced calls, for a Chrome trace.

    Attributes:
        calls: how many were traced for the table of modules.
        traced_ms: median latency of a traced call.
        events: name, module, operator, call, start and duration in microseconds.
    """

    calls: int
    traced_ms: float
    events: list[dict[str, Any]]


@dataclass(frozen=True)
class ProfileResult:
    """All that one request to `edgesparse profile` found.

    Attributes:
        latencies: of single calls, an even sample of at most 2,000.
        conditions: what disturbed the measurement.
        modules: where the time goes, by falling time; None where it was not traced.
        paced: one entry per rate.
        sweep: profiles by setting ("threads", "batch", "length").
        on: the other machine, where it was measured on one.
    """

    profile: Profile
    latencies: list[float]
    conditions: Conditions
    environment: Environment
    modules: list[Module] | None = None
    trace: Trace | None = None
    paced: list[Paced] = field(default_factory=list)
    soak: Soak | None = None
    sweep: dict[str, list[Profile]] = field(default_factory=dict)
    on: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """The JSON form; what was not measured is left out."""
        found = asdict(self) | {"paced": [paced.to_dict() for paced in self.paced]}
        optional = ("modules", "trace", "paced", "soak", "on")
        return {name: value for name, value in found.items() if value or name not in optional}

    @classmethod
    def from_dict(cls, found: dict[str, Any]) -> ProfileResult:
        """Read what `to_dict` wrote."""
        modules, soak = found.get("modules"), found.get("soak")
        return cls(
            profile=Profile(**found["profile"]),
            latencies=found["latencies"],
            conditions=Conditions(**found["conditions"]),
            environment=found["environment"],
            modules=None if modules is None else [Module(**m) for m in modules],
            trace=Trace(**found["trace"]) if "trace" in found else None,
            paced=[Paced.from_dict(p) for p in found.get("paced", [])],
            soak=None if soak is None else Soak(**soak),
            sweep={name: [Profile(**p) for p in ps] for name, ps in found.get("sweep", {}).items()},
            on=found.get("on"),
        )
