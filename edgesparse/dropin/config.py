"""What a drop-in layer is to do: block size, window, summaries, router."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from edgesparse.bounds import at_least, bounded, check_bounds
from edgesparse_runtime.errors import InputError

# Block positions that have a learned bias of their own; those beyond share the last one's.
POSITIONS = 128


@dataclass(frozen=True)
class DropinConfig:
    """The part of the rule that is the same in all layers of a model.

    Attributes:
        block_size: tokens per block. 64 is faster in the kernel, 16 picks finer
            (`python -m benchmarks.dropin.oracle`).
        window: blocks on each side that are always kept; 0 = the diagonal block only.
        summaries: every dropped block still takes part as one summary token.
        sampled_queries: queries of each block whose exact attention chooses its blocks (`SampledRouter`);
            0 = a router of pooled queries and keys, which costs less and does not find single tokens.
    """

    block_size: int = bounded(32, at_least(1, "Use 16 to 64."))
    window: int = bounded(0, at_least(0))
    summaries: bool = True
    sampled_queries: int = bounded(0, at_least(0, "Use 2 to 4."))

    def __post_init__(self) -> None:
        for name in ("block_size", "window", "sampled_queries"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int):
                raise InputError(f"`{name}` must be a whole number; got {value!r}.")
        check_bounds(self)
        if self.sampled_queries > self.block_size:
            raise InputError(
                f"`sampled_queries` must be at most `block_size`, {self.block_size}; "
                f"got {self.sampled_queries}."
            )

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> DropinConfig:
        """The rule that `to_dict` wrote.

        Raises:
            InputError: a field that this version does not know.
        """
        known = {field.name for field in fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise InputError(f"A drop-in rule has the fields {', '.join(sorted(known))}; got {unknown[0]}.")
        return cls(**values)
