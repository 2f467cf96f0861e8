"""Calibration: unlabeled batches in, routers that look where dense attention looked, at a chosen density."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from torch import Tensor, nn

from edgesparse.dropin.attention import DropinAttention
from edgesparse.dropin.batches import read_batches
from edgesparse.dropin.checks import check_steps, check_targets
from edgesparse.dropin.correction import clear_corrections, correct_means
from edgesparse.dropin.distill import distill
from edgesparse.dropin.fit import CAP, STEPS, choose_top_p, fit_router, least_density, meet_density
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
        say: receives a line of progress.

    Raises:
        InputError: neither or both targets, a target out of range or out of reach on these batches, no
            batches or such that the model does not take, or no drop-in layers.
    """
    start = time.monotonic()
    check_targets(density, fidelity)
    check_steps("router_steps", router_steps)
    check_steps("distill_steps", distill_steps)
    data = _CalibrationData(model, read_batches(batches), say)
    _check_reach(data.layers, data.observations, density)
    before, after = _fit_routers(data, router_steps, seed)
    if density is not None:
        measure = partial(_measure_density, data)
        meet_density(data.layers, data.observations, density, measure, cap=cap)
    else:
        assert fidelity is not None
        _search(data, fidelity, cap)
    # Causal layers get no correction.
    corrected = correct and not all(layer.is_causal for layer in data.layers) and _correct(data)
    if distill_steps:
        distill(model, data.fitted_pairs, steps=distill_steps, rate=distill_rate, seed=seed, say=say)
    reached, near = measure_fidelity(model, data.measured)
    return Calibration(
        reached, near, data.held_out, before, after, corrected, distill_steps, time.monotonic() - start
    )


class _CalibrationData:
    """The batches with the dense model's outputs on them, and what each layer's router learns from.

    Attributes:
        fitted_pairs: batches that routers are fitted on, each with the dense output.
        measured: the same of the batches to measure on: those held out, or the only one.
        held_out: how many were held out.
    """

    def __init__(self, model: nn.Module, batches: Sequence[Batch], say: Callable[[str], None]) -> None:
        self.model, self.say = model, say
        fitted, held_out = split_batches(batches)
        say(f"dense pass over {len(batches)} batches")
        expected = _dense_outputs(model, batches)
        self.fitted_pairs = [(batch, expected[id(batch)]) for batch in fitted]
        self.measured = [(batch, expected[id(batch)]) for batch in held_out or fitted]
        self.held_out = len(held_out)
        self.layers = dropin_layers(model)
        if not self.layers:
            raise InputError(
                "`model` must have attention layers to make sparse; a pass over a batch met none. Sliding "
                "windows are exact as they are, cross attention and masks of pairs stay dense: use a model "
                "with layers in which each token sees all others."
            )
        self.observations = self._observe()

    def _observe(self) -> list[Observation]:
        for layer in self.layers:
            layer.observations.clear()
        with attention_mode(self.model, "collect"):
            for batch, _ in self.fitted_pairs:
                run_model(self.model, batch)
        # A correction of an earlier calibration belongs to the density of then.
        clear_corrections(self.model)
        observations = [
            join_observations(layer.observations, layer.router.block_axes) for layer in self.layers
        ]
        for layer in self.layers:
            layer.observations.clear()
        return observations


def _fit_routers(data: _CalibrationData, steps: int, seed: int) -> tuple[float, float]:
    """The routers' mean divergence from dense attention's block mass, before and after."""
    figures = []
    for index, (layer, observation) in enumerate(zip(data.layers, data.observations, strict=True)):
        data.say(f"router {index + 1} of {len(data.layers)}")
        figures.append(fit_router(layer, observation, steps=steps, seed=seed))
    before, after = zip(*figures, strict=True)
    return sum(before) / len(before), sum(after) / len(after)


def _correct(data: _CalibrationData) -> bool:
    """Correct the layers' means if that brings the output nearer to dense; whether it does."""
    _, before = measure_fidelity(data.model, data.measured)
    correct_means(data.model, [batch for batch, _ in data.fitted_pairs])
    _, after = measure_fidelity(data.model, data.measured)
    is_worth_it = after - before >= WORTH * (1 - before)
    if not is_worth_it:
        clear_corrections(data.model)
    kept = "kept" if is_worth_it else "gains too little and is left out"
    data.say(f"correction of means: cosine {before:.4f} -> {after:.4f}, {kept}")
    return is_worth_it


def _measure_density(data: _CalibrationData) -> float:
    density, _ = measure_fidelity(data.model, data.measured)
    return density


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
    """Refuse what the data cannot give: diagonal blocks are always kept.

    Raises:
        InputError: inputs of one block, or a density below that of diagonal blocks alone.
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
            f"diagonal blocks of {size} tokens and the window; got {density:g}. Use longer inputs or a "
            "smaller block size."
        )


def _search(data: _CalibrationData, fidelity: float, cap: float | None) -> None:
    """The lowest density whose cosine is `fidelity`, by bisection.

    Raises:
        InputError: not even all blocks are enough (rounding, next to 1).
    """
    low, high = least_density(data.layers, data.observations), 1.0
    for _ in range(SEARCH_STEPS):
        middle = (low + high) / 2
        choose_top_p(data.layers, data.observations, middle, cap=cap)
        density, near = measure_fidelity(data.model, data.measured)
        data.say(f"density {density:.3f}: cosine {near:.4f}")
        if near >= fidelity:
            high = middle
        else:
            low = middle
    choose_top_p(data.layers, data.observations, high, cap=cap)
    if high == 1.0:
        density, near = measure_fidelity(data.model, data.measured)
        if near < fidelity:
            raise InputError(
                f"`fidelity` must be at most {near:.9f}, what density {density:.3f} gives here; "
                f"got {fidelity:.9g}."
            )
