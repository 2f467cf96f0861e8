"""How well a map finds what was planted: ours, and captum's integrated gradients and feature ablation.

Each rival is given in several forms (raw or smoothed, signed or not); what counts is the form that does best
over a model's windows.
"""

from __future__ import annotations

import importlib.util

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.explaining.planted import PATCH, STEPS
from edgesparse.training.run_folder import Run
from edgesparse_runtime.explain.influence import Decision, measure_influence
from edgesparse_runtime.session import Session

Map = npt.NDArray[np.float64]
HAS_CAPTUM = importlib.util.find_spec("captum") is not None
_SEGMENT, _FINE = PATCH // 2, PATCH // 8
_IG_STEPS = 32


def average_precision(values: Map, truth: npt.NDArray[np.bool_]) -> float:
    """Area under the precision-recall curve of a ranking."""
    hits = truth[np.argsort(-values, kind="stable")]
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    return float((precision * hits).sum() / max(1, hits.sum()))


def ours(session: Session, window_CT: npt.NDArray[np.float32]) -> tuple[int, Map, Map]:
    """The predicted class, and our maps of steps and of channels."""
    found = measure_influence(session, window_CT)
    decision = Decision(int(found.scores.argmax()))
    assert decision.target is not None
    return decision.target, found.per_step(decision), found.of_channels(decision)


def rivals(
    run: Run, window_CT: npt.NDArray[np.float32], target: int
) -> dict[str, dict[str, tuple[Map, Map]]]:
    """By method and form, captum's maps of steps and of channels."""
    from captum.attr import FeatureAblation, IntegratedGradients

    model = run.model.eval()
    x = torch.from_numpy(window_CT)[None]
    gradient = IntegratedGradients(model).attribute(
        x, target=target, n_steps=_IG_STEPS, internal_batch_size=16
    )
    ig = gradient.detach().double().numpy()[0]
    channels = torch.arange(len(window_CT))[None, :, None].expand(1, -1, STEPS)
    ablation = FeatureAblation(model)
    by_channel = _ablate(ablation, x, target, channels)[:, 0]
    steps = torch.arange(STEPS)[None, None].expand(1, len(window_CT), STEPS)
    forms = {f"groups of {n}": _ablate(ablation, x, target, steps // n)[0] for n in (_FINE, _SEGMENT)}
    return {
        "integrated gradients": _forms(ig.sum(axis=0), ig.sum(axis=1), "signed")
        | _forms(np.abs(ig).sum(axis=0), np.abs(ig).sum(axis=1), "size"),
        "feature ablation": {
            name: maps for form, v in forms.items() for name, maps in _forms(v, by_channel, form).items()
        },
    }


def _ablate(method: object, x: torch.Tensor, target: int, mask: torch.Tensor) -> Map:
    with torch.no_grad():
        found = method.attribute(x, target=target, feature_mask=mask, baselines=0.0)  # type: ignore[attr-defined]
    return np.asarray(found.double().numpy()[0])


def _forms(steps_T: Map, channels_C: Map, name: str) -> dict[str, tuple[Map, Map]]:
    smooth = np.convolve(steps_T, np.ones(_SEGMENT) / _SEGMENT, "same")
    segments = np.repeat(steps_T.reshape(-1, _SEGMENT).sum(axis=1), _SEGMENT)
    return {
        name: (steps_T, channels_C),
        f"{name}, smoothed": (smooth, channels_C),
        f"{name}, by segment": (segments, channels_C),
    }
