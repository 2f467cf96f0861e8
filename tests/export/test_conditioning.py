"""A token that amplifies rounding may differ by that; no other may, and not many."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from edgesparse.dropin.sparsify import sparsify
from edgesparse_export.dropin.bundle import OF_ROUNDING, check_parity
from edgesparse_export.dropin.conditioning import find_rounding
from edgesparse_runtime.session import Session
from tests.edgesparse.dropin.tiny_models import tiny

pytest.importorskip("transformers", reason="needs pip install 'edgesparse[dropin]'")


class Amplifier(nn.Module):
    """Sixteen entries are weights, and sixteen hang on differences of large ones."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.cat([torch.full((16,), 3.0), torch.full((32,), 1000.0)]))

    def run(self) -> Any:
        plain, a, b = self.weight.detach().split(16)
        return torch.stack([plain, a - b]).numpy()


def test_rounding_is_what_the_last_bits_of_the_weights_do() -> None:
    model = Amplifier()
    before = model.weight.clone()
    moved = find_rounding(model, model.run, model.run())
    assert moved[0].min() > 0 and moved[0].max() <= 3.0 * 2**-22
    assert 1000 * 2**-23 <= moved[1].max() <= 1000 * 2**-21
    assert torch.equal(model.weight, before)


class Altered:
    """A session whose first row is off at some tokens."""

    def __init__(self, session: Session, tokens: int, difference: float) -> None:
        self.session, self.tokens, self.difference = session, tokens, difference

    def predict(self, data: Any) -> Any:
        scores = self.session.predict(data).copy()
        scores[0, : self.tokens] += self.difference
        return scores

    def selections(self, data: Any) -> Any:
        return self.session.selections(data)


@pytest.mark.parametrize(
    ("tokens", "share", "holds"),
    [(1, 0.5, True), (1, 2.0, False), (8, 0.5, False)],
)
def test_what_a_token_may_differ_by(
    monkeypatch: pytest.MonkeyPatch, tokens: int, share: float, holds: bool
) -> None:
    """One in a thousand may, by what rounding moves it; three comparisons see it."""
    import onnx_ir as ir

    from edgesparse_export.dropin.program import dropin_to_onnx

    model, batch = tiny("bert", tokens=128)
    batch = {name: x.repeat(-(-20 // len(x)), 1)[:20] for name, x in batch.items()}
    sparsify(model, [batch, batch], density=0.5, block_size=16)
    session = Session("m.onnx", content=ir.to_proto(dropin_to_onnx(model, batch)).SerializeToString())
    assert check_parity(model, session, batch).holds
    moved = 0.1
    monkeypatch.setattr(
        "edgesparse_export.dropin.bundle.find_rounding",
        lambda model, run, expected: np.full_like(expected, moved),
    )
    altered: Any = Altered(session, tokens, share * OF_ROUNDING * moved)
    assert check_parity(model, altered, batch).holds == holds
