"""Do the exported model's outputs equal the trained model's? The verdict that an export must pass.

Three comparisons between torch and onnxruntime on the same raw windows: the largest difference of the
scores, decisions that flipped, and the share of block choices that agree.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from edgesparse.training.budget import recording
from edgesparse_export.program import Postprocess

FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]

# docs/reference/numerics.md, row "torch, function body, kernel".
RELATIVE, ABSOLUTE = 1e-4, 1e-5
# A block whose share lies within rounding of `top_p` may fall on either side.
LEAST_AGREEMENT = 0.999
TIE_DIFFERENCE = 1e-6


@dataclass(frozen=True)
class Parity:
    """The verdict.

    Attributes:
        windows: how many were compared.
        largest_difference: of any score.
        within_tolerance: every score within the table's relative and absolute tolerance.
        decisions_flipped: windows whose highest score changed place (classification only).
        selection_overlap: share of block choices that are equal; None for a dense model.
        choices_that_matter: share of block choices that differ in windows whose scores moved by more than
            rounding. Equal blocks tie, and engines that round differently break the tie differently.
    """

    windows: int
    largest_difference: float
    within_tolerance: bool
    decisions_flipped: int
    selection_overlap: float | None
    choices_that_matter: float = 0.0

    @property
    def holds(self) -> bool:
        same_choice = self.choices_that_matter <= 1 - LEAST_AGREEMENT
        return self.within_tolerance and self.decisions_flipped == 0 and same_choice

    def to_dict(self) -> dict[str, object]:
        return asdict(self) | {"holds": self.holds}


def compare(
    expected: FloatArray,
    actual: FloatArray,
    expected_selections: Sequence[BoolArray] = (),
    actual_selections: Sequence[BoolArray] = (),
    *,
    is_classification: bool = True,
) -> Parity:
    """Compare scores [n, k] and selections of two engines."""
    difference = np.abs(expected - actual)
    allowed = ABSOLUTE + RELATIVE * np.abs(expected)
    flipped = int((expected.argmax(-1) != actual.argmax(-1)).sum()) if is_classification else 0
    agreement, matter = None, 0.0
    if expected_selections:
        pairs = zip(expected_selections, actual_selections, strict=True)
        # Choices that differ, per window.
        differ = sum((a != b).reshape(len(expected), -1).sum(1) for a, b in pairs)
        choices = sum(a.size for a in expected_selections)
        moved = difference.reshape(len(expected), -1).max(1) > TIE_DIFFERENCE
        agreement, matter = 1 - float(np.sum(differ)) / choices, float(np.sum(differ * moved)) / choices
    return Parity(
        windows=len(expected),
        largest_difference=float(difference.max(initial=0.0)),
        within_tolerance=bool((difference <= allowed).all()),
        decisions_flipped=flipped,
        selection_overlap=agreement,
        choices_that_matter=matter,
    )


def torch_outputs(
    model: nn.Module, to_scores: Postprocess, windows: FloatArray
) -> tuple[FloatArray, list[BoolArray]]:
    """Scores and selections of the trained model in torch."""
    with recording(model) as records:
        scores = to_scores(model(torch.from_numpy(windows))).numpy()
        selections = [record.selection.numpy() for record in records.values() if record.selection is not None]
    return scores, selections
