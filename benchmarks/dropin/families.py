"""Families of transformers: `python -m benchmarks.dropin.families --write` writes docs/guides/dropin.md.

Each is a model of random weights: what holds is that the arithmetic is the family's own. In PyTorch, sparse
attention that keeps every block is compared with the family's dense attention, padded on the right and on the
left; the exported file runs in plain onnxruntime (no library of ours, so the function body runs) and is
compared with the sparse model in PyTorch. Nothing is said about density or speed.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime
import torch

from benchmarks.dropin.family_models import FAMILIES, Family, difference
from edgesparse.dropin import dropin_layers
from edgesparse.dropin.outputs import run_model
from edgesparse.dropin.sparsify import sparsify
from edgesparse_export.dropin.program import dropin_to_onnx
from edgesparse_runtime.errors import InputError
from tests.support.paths import ROOT

PAGE = ROOT / "docs" / "guides" / "dropin.md"
BEGIN, END = "<!-- families: begin -->", "<!-- families: end -->"
# Of the largest value of an output.
PARITY, EXPORT = 1e-5, 1e-4


@dataclass(frozen=True)
class Found:
    """What was measured of a family.

    Attributes:
        sparse, layers: attention layers that are sparse, and all of them.
        parity: of every block kept to dense, largest difference over the largest value.
        export: of the file in onnxruntime to the sparse model, likewise.
        refused: the sentence.
    """

    family: Family
    sparse: int = 0
    layers: int = 0
    parity: float = 0.0
    export: float = 0.0
    refused: str = ""

    @property
    def holds(self) -> bool:
        """As the family is said to be: refused with a sentence, or right."""
        if self.family.is_refused:
            return bool(self.refused)
        return not self.refused and self.parity <= PARITY and self.export <= EXPORT

    def figures(self) -> dict[str, Any]:
        """For a store."""
        return {"parity": self.parity, "export": self.export, "refused": self.refused}

    def to_row(self) -> str:
        family = self.family
        if self.refused:
            return f"| {family.name} | {family.used_by} | | | refused |"
        windows = self.layers - self.sparse
        layers = f"{self.sparse} of {self.layers}; {windows} with exact windows" if windows else "all"
        return f"| {family.name} | {family.used_by} | {layers} | {self.parity:.0e} | {self.export:.0e} |"


def measure(family: Family) -> Found:
    """Parity in PyTorch and through onnxruntime, or the sentence with which the family is refused."""
    model = family.make()
    layers = family.layers
    try:
        apart = [difference(family, is_left_padded=side) for side in family.paddings]
        batch = family.batch()
        if family.is_windows_only:
            sparsify(model)
        else:
            sparsify(model, [batch, batch], density=0.6, block_size=8)
        with torch.no_grad():
            expected = run_model(model, batch).numpy()
        content: bytes = ir.to_proto(dropin_to_onnx(model, batch)).SerializeToString()
    except InputError as error:
        return Found(family, refused=str(error))
    actual = run_plainly(content, batch)
    real = family.real_tokens(batch)
    apart_exported = float(np.abs(actual - expected)[real].max() / np.abs(expected[real]).max())
    return Found(family, len(dropin_layers(model)), layers, max(apart), apart_exported)


def run_plainly(content: bytes, batch: dict[str, Any]) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Scores of a file by onnxruntime as it comes."""
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    names = {x.name for x in session.get_inputs()}
    found = session.run(["scores"], {name: x.numpy() for name, x in batch.items() if name in names})
    return np.asarray(found[0], dtype=np.float32)


def to_table(found: list[Found]) -> str:
    """Markdown."""
    head = [
        "| family | used by | sparse layers | every block kept, to dense | exported, to PyTorch |",
        "|---|---|---|---|---|",
    ]
    return "\n".join([*head, *(x.to_row() for x in found)])


def write_page(page: Path, table: str) -> None:
    """Put the table between its marks."""
    text = page.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    page.write_text(f"{before}{BEGIN}\n{table}\n{END}{after}", encoding="utf-8")


def main() -> int:
    """Measure the families named, print their table, and with `--write` put it into the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("families", nargs="*", help="names; default: all")
    parser.add_argument("--write", action="store_true", help="write the table into docs/guides/dropin.md")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    found = []
    for family in FAMILIES:
        if not chosen.families or family.name in chosen.families:
            found.append(measure(family))
            print(
                f"{found[-1].to_row()} {'' if found[-1].holds else 'WRONG'} {found[-1].refused}", flush=True
            )
    if chosen.write:
        write_page(PAGE, to_table(found))
    return int(not all(x.holds for x in found))


if __name__ == "__main__":
    sys.exit(main())
