"""Calibration: unlabeled batches in, routers that look where dense attention looked, at a wanted density."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor, nn

from edgesparse.dropin.attention import DropinAttention
from edgesparse.dropin.batches import read_batches
from edgesparse.dropin.checks import check_steps, check_targets
from edgesparse.dropin.correction import clear_corrections, correct_means
from edgesparse.dropin.distill import distill
from edgesparse.dropin.fit import CAP, STEPS, choose_top_p, least_density, teach_router
from edgesparse.dropin.layers import attention_mode, counted_density, dropin_layers
from edgesparse.dropin.observations import Observation, join_observations
from edgesparse.dropin.outputs import Batch, cosine, padding_of, run_model, try_model
from edgesparse_runtime.errors import InputError

# Bisections of the density for a wanted fidelity: to about one part in a hundred.
SEARCH_STEPS = 7
# Share of the distance to dense that a correction must take away to be kept.
WORTH = 0.1


@dataclass(frozen=True)
class Calibration:
    """What calibration did.

    Attributes:
        density: share of query-key pairs attended to, on the batches that `cosine` was measured on.
        cosine: of the main output to the dense model's, mean over tokens; on held-out batches where
            there were at least two, on the only one otherwise (`held_out` says which).
        held_out: batches that routers were not fitted on.
        divergence_before, divergence_after: of the routers from dense attention's block mass, mean over
            layers.
        corrected: layers carry a correction of their mean.
        distill_steps: steps of weight distillation.
        seconds: of all of it.
    """

    density: float
    cosine: float
    held_out: int
    divergence_before: float
    divergence_after: float
    corrected: bool
    distill_steps: int
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def calibrate(
    model: nn.Module,
    batches: Iterable[Batch],
    *,
    density: float | None = None,
    fidelity: float | None = None,
    cap: float | None = CAP,
    router_steps: int = STEPS,
    correct: bool = True,
    distill_steps: int = 0,
    distill_rate: float = 1e-4,
    seed: int = 0,
    say: Callable[[str], None] = lambda text: None,
) -> Calibration:
    """Fit the routers of a sparsified model and set `top_p` of every head.

    Args:
        batches: what the model takes, read once and held in memory (see `read_batches`); a fifth of them
            (the last ones) is held out to measure on.
        density: share of query-key pairs to attend to; this or `fidelity`.
        fidelity: least cosine to the dense output on the held-out batches; the lowest density that reaches it
            is searched for.
        cap: see `choose_top_p`.
        router_steps: of fitting a router; 0 keeps pooled query-key similarity.
        correct: give each layer back the mean that it gets wrong (`correct_means`), if held-out batches come
            nearer to dense by a tenth.
        distill_steps: steps in which the model's own weights learn to make up for what is dropped; 0 = none.
        say: told of progress.

    Raises:
        InputError: neither or both targets, a target out of range or out of reach on these batches, no
            batches or such that the model does not take, or no drop-in layers.
    """
    start = time.monotonic()
    check_targets(density, fidelity)
    check_steps("router_steps", router_steps)
    check_steps("distill_steps", distill_steps)
    batches = read_batches(batches)
    taught, held_out = split_batches(batches)
    say(f"dense pass over {len(batches)} batches")
    expected = _dense_outputs(model, batches)
    layers = dropin_layers(model)
    if not layers:
        raise InputError("`model` must have attention layers to make sparse; a pass over a batch met none.")
    for layer in layers:
        layer.observations.clear()
    with attention_mode(model, "collect"):
        for batch in taught:
            run_model(model, batch)
    # A correction of an earlier calibration belongs to the density of then.
    clear_corrections(model)
    observations = [join_observations(layer.observations) for layer in layers]
    for layer in layers:
        layer.observations.clear()
    _check_reach(layers, observations, density)
    before, after = [], []
    for index, (layer, observation) in enumerate(zip(layers, observations, strict=True)):
        say(f"router {index + 1} of {len(layers)}")
        figures = teach_router(layer, observation, steps=router_steps, seed=seed)
        before.append(figures[0])
        after.append(figures[1])
    measured = [(batch, expected[id(batch)]) for batch in (held_out or taught)]
    if density is not None:
        choose_top_p(layers, observations, density, cap=cap)
    else:
        assert fidelity is not None
        least = least_density(layers, observations)
        _search(
            model,
            lambda share: choose_top_p(layers, observations, share, cap=cap),
            measured,
            fidelity,
            least,
            say,
        )
    corrected = correct and _correct(model, taught, measured, say)
    if distill_steps:
        distill(
            model,
            [(batch, expected[id(batch)]) for batch in taught],
            steps=distill_steps,
            rate=distill_rate,
            seed=seed,
            say=say,
        )
    reached, near = measure_fidelity(model, measured)
    return Calibration(
        density=reached,
        cosine=near,
        held_out=len(held_out),
        divergence_before=sum(before) / len(before),
        divergence_after=sum(after) / len(after),
        corrected=corrected,
        distill_steps=distill_steps,
        seconds=time.monotonic() - start,
    )


def _correct(
    model: nn.Module,
    taught: Sequence[Batch],
    measured: Sequence[tuple[Batch, Tensor]],
    say: Callable[[str], None],
) -> bool:
    """Correct the layers' means if that brings the output nearer to dense; whether it does."""
    _, before = measure_fidelity(model, measured)
    correct_means(model, taught)
    _, after = measure_fidelity(model, measured)
    say(f"means corrected: cosine {before:.4f} -> {after:.4f}")
    is_worth_it = after - before >= WORTH * (1 - before)
    if not is_worth_it:
        clear_corrections(model)
    return is_worth_it


def measure_fidelity(model: nn.Module, pairs: Sequence[tuple[Batch, Tensor]]) -> tuple[float, float]:
    """Density and mean cosine to expected outputs of a model in its sparse mode."""
    with attention_mode(model, "sparse"):
        near = [cosine(run_model(model, batch), wanted, padding_of(batch)) for batch, wanted in pairs]
        return counted_density(model), sum(near) / len(near)


def split_batches(batches: Sequence[Batch]) -> tuple[list[Batch], list[Batch]]:
    """Batches to fit on and the last fifth, held out; of a single batch nothing is held out."""
    held = 0 if len(batches) < 2 else max(1, len(batches) // 5)
    return list(batches[: len(batches) - held]), list(batches[len(batches) - held :])


def _dense_outputs(model: nn.Module, batches: Sequence[Batch]) -> dict[int, Tensor]:
    with attention_mode(model, "dense"):
        # The first pass makes the layers, in sparse mode with everything kept: their mode is set by the
        # second.
        try_model(model, batches[0])
    with attention_mode(model, "dense"):
        return {id(batch): try_model(model, batch) for batch in batches}


def _check_reach(
    layers: Sequence[DropinAttention], observations: Sequence[Observation], density: float | None
) -> None:
    """Refuse what the data cannot give: own blocks are always kept.

    Raises:
        InputError: inputs of one block, or a density below that of own blocks alone.
    """
    size, least = layers[0].rule.block_size, least_density(layers, observations)
    if least >= 1:
        raise InputError(
            f"`batches` must hold inputs longer than one block of {size} tokens to leave anything out; "
            "none is. Use longer inputs or a smaller block size."
        )
    # A reachable share may lie a rounding of the counts below.
    if density is not None and density < least - 1e-9:
        raise InputError(
            f"`density` must be at least {math.ceil(least * 1000) / 1000:g} on these batches, the share of "
            f"own blocks of {size} tokens and the window; got {density:g}. Use longer inputs or a smaller "
            "block size."
        )


def _search(
    model: nn.Module,
    choose: Callable[[float], float],
    measured: Sequence[tuple[Batch, Tensor]],
    fidelity: float,
    least: float,
    say: Callable[[str], None],
) -> None:
    """The lowest density whose cosine is `fidelity`, by bisection.

    Raises:
        InputError: not even all blocks are enough (rounding, next to 1).
    """
    low, high = least, 1.0
    for _ in range(SEARCH_STEPS):
        middle = (low + high) / 2
        choose(middle)
        density, near = measure_fidelity(model, measured)
        say(f"density {density:.3f}: cosine {near:.4f}")
        if near >= fidelity:
            high = middle
        else:
            low = middle
    choose(high)
    if high == 1.0:
        density, near = measure_fidelity(model, measured)
        if near < fidelity:
            raise InputError(
                f"`fidelity` must be at most {near:.9f}, what density {density:.3f} gives here; "
                f"got {fidelity:.9g}."
            )
