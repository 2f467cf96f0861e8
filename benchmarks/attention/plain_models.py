"""Writes dense.onnx and sparse.onnx for the comparison in plain onnxruntime: preset small, 1,024 tokens.

The weights are random: time does not depend on them, and density is set to 25 % by calibration on the
windows that are timed. Prints what was made as JSON.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Literal

import onnx_ir as ir
import torch

from edgesparse.model.transformer import SequenceTransformer, choose_sizes
from edgesparse.presets import small
from edgesparse.training.budget import measure_compute, set_selection
from edgesparse_export.program import to_onnx

TOKENS, PATCH, DENSITY = 1024, 4, 0.25


def main() -> None:
    folder = Path(sys.argv[1])
    config = small()
    config = choose_sizes(replace(config, patch=PATCH), [TOKENS * PATCH])
    steps = TOKENS * PATCH
    windows = torch.randn(2, 1, steps, generator=torch.Generator().manual_seed(0)).cumsum(-1)
    facts: dict[str, object] = {"tokens": TOKENS, "steps": steps}
    kinds: tuple[Literal["dense", "sparse"], ...] = ("dense", "sparse")
    for attention in kinds:
        torch.manual_seed(0)
        model = SequenceTransformer(
            replace(config, attention=attention),
            channels=1,
            outputs=10,
        ).eval()
        model.fit_stem(windows)
        if attention == "sparse":
            # Exactly a quarter of the blocks, so that the figure is of that density and no other.
            set_selection(model, 1.0, round(DENSITY * TOKENS / model.block_size))
            report = measure_compute(model, [windows])
            facts |= {
                "density": report.density,
                "attention_share": report.attention_share,
                "model_share": report.model_share,
                "block_size": model.block_size,
            }
        ir.save(to_onnx(model, windows, lambda output: output.softmax(-1)), folder / f"{attention}.onnx")
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
