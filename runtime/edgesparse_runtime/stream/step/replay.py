"""A whole window fed to a step model sample by sample, to compare it with the whole model."""

from __future__ import annotations

import numpy as np

from edgesparse_runtime.stream.sample import FloatArray
from edgesparse_runtime.stream.step.token_stream import StepModel, TokenStream


def run_tokens(model: StepModel, window_CT: FloatArray) -> FloatArray:
    """Scores at every token of a window fed sample by sample, [tokens, n]; the last one may be unfinished."""
    steps = window_CT.shape[1]
    stream = TokenStream(model, steps)
    rows = []
    for i in range(steps):
        is_end = (i + 1) % model.facts.steps_per_token == 0 or i + 1 == steps
        scores = stream.push(window_CT[:, i], wants_scores=is_end)
        if scores is not None:
            rows.append(scores)
    return np.stack(rows)


def without_padding(window_CT: FloatArray) -> FloatArray:
    """The window up to its last value: a tail of missing steps is padding to the whole model, and nothing to
    a stream. A window without any value keeps one step.
    """
    last = int(np.flatnonzero(~np.isnan(window_CT).all(0)).max(initial=0))
    return window_CT[:, : last + 1]
