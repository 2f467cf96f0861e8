"""What a poc trains: rungs, seeds and shares of the labels, and in which order.

A cell is one training: a rung, a seed and a share. Cells that answer one question form a block: all rungs
with one seed, or those of the learning curve with one seed and share. A time budget drops whole blocks: what
is compared stays paired.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from edgesparse.choosing.default_model import SMALL_SETTINGS

DENSE, SMALL, RIVAL = "dense", "small", "multirocket-hydra"
# What a rung sets, besides the defaults of `edgesparse train`.
RUNGS: dict[str, tuple[str, ...]] = {
    DENSE: ("model.attention=dense",),
    "sparse-90": ("model.attention=sparse", "training.budget=0.9"),
    "sparse-70": ("model.attention=sparse", "training.budget=0.7"),
    "sparse-30": ("model.attention=sparse", "training.budget=0.3"),
    SMALL: ("model.layers=0",),
    RIVAL: (),
}
# More labels or fewer are tried without the sparse rungs: the question is of labels, not of attention.
CURVE = (DENSE, SMALL, RIVAL)
SHARES = (0.25, 0.5)


@dataclass(frozen=True)
class Cell:
    """One training."""

    rung: str
    seed: int
    share: float = 1.0

    @property
    def name(self) -> str:
        return f"{self.rung}-{self.seed}" + ("" if self.share == 1 else f"-{self.share:.0%}".rstrip("%"))


@dataclass(frozen=True)
class Block:
    """Cells that are run or dropped together.

    Attributes:
        name: in words, for what was dropped.
        is_needed: never dropped.
    """

    name: str
    cells: tuple[Cell, ...]
    is_needed: bool = False


@dataclass(frozen=True)
class Plan:
    """Everything that a poc is asked to measure.

    Attributes:
        seeds: trainings of each rung.
        settings: section.key=value, of every transformer; those that it knows also of the small model.
        margin: of accuracy that a model may lose and still count as not worse.
        seconds: computing time to measure each model's latency for.
        time_budget: seconds of computing, over all runs; None = no limit.
        jobs: trainings side by side.
        left_out: rungs that cannot be measured, and why.
    """

    seeds: int = 3
    settings: tuple[str, ...] = ()
    margin: float = 0.03
    seconds: float = 2.0
    time_budget: float | None = None
    jobs: int = 1
    left_out: Mapping[str, str] = field(default_factory=dict)

    @property
    def rungs(self) -> list[str]:
        return [rung for rung in RUNGS if rung not in self.left_out]

    def blocks(self) -> list[Block]:
        """The first seed; then the other seeds; then the learning curve, seed by seed."""
        found = [
            Block(f"seed {seed}", tuple(Cell(rung, seed) for rung in self.rungs), is_needed=seed == 0)
            for seed in range(self.seeds)
        ]
        for seed in range(self.seeds):
            for share in SHARES:
                cells = tuple(Cell(rung, seed, share) for rung in self.rungs if rung in CURVE)
                found.append(Block(f"{share:.0%} of the labels, seed {seed}", cells))
        return found


def overrides(rung: str, seed: int, settings: Sequence[str]) -> list[str]:
    """`section.key=value` of a rung's training."""
    if rung == SMALL:
        settings = [text for text in settings if text.partition("=")[0].strip() in SMALL_SETTINGS]
    return [*settings, *RUNGS[rung], f"training.seed={seed}"]
