"""`UnknownScore`: how far a window lies from what training knows; above 1 it is none of these.

Two distances in the skip's standardized features, of which a random part is enough:

1. to the nearest *prototype*, a training window, in units of how far that one's own neighbors are. This finds
   what is far.
2. of a linear regression on the classes from the nearest class: a known window lies near a corner of the
   simplex (1, 0, 0), an unknown one in between or beyond. This finds a class that training never had.

The score is the first times the second plus `BASE`, over a threshold. Neither does both
(docs/guides/operate.md).

Shapes: `B` batch, `F` features of the skip, `m` of them used, `M` prototypes, `K` classes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from edgesparse.model.transformer import SequenceTransformer

# What the class distance is added to: the larger, the less it counts.
BASE = 2.0


class UnknownScore(nn.Module):
    """Standardized features of a skip [B, F] -> score [B]; above 1 = unknown.

    Args:
        features: m.
        prototypes: M.
        classes: K; 0 for numbers, which have the first distance only.
    """

    index: Tensor
    prototype: Tensor
    scale: Tensor
    weight: Tensor
    bias: Tensor
    threshold: Tensor

    def __init__(self, features: int, prototypes: int, classes: int) -> None:
        super().__init__()
        self.register_buffer("index", torch.zeros(features, dtype=torch.int64))
        self.register_buffer("prototype", torch.zeros(prototypes, features))
        self.register_buffer("scale", torch.ones(prototypes))
        self.register_buffer("weight", torch.zeros(classes, features))
        self.register_buffer("bias", torch.zeros(classes))
        self.register_buffer("threshold", torch.ones(1))

    def forward(self, standardized_BF: Tensor) -> Tensor:
        """[B]."""
        part_Bm = standardized_BF[:, self.index]
        # |x - p|^2 in one matrix product.
        square_BM = (
            part_Bm.square().sum(-1, keepdim=True)
            + self.prototype.square().sum(-1)
            - 2.0 * linear(part_Bm, self.prototype)
        )
        near = (square_BM.clamp(min=0.0) / self.scale.square()).amin(-1).sqrt()
        if not len(self.bias):
            return near * BASE / self.threshold
        share_BK = linear(part_Bm, self.weight, self.bias)
        corner = share_BK.square().sum(-1) - 2.0 * share_BK.amax(-1) + 1.0
        return near * (corner.clamp(min=0.0).sqrt() + BASE) / self.threshold


def features_of(model: SequenceTransformer, window_BCT: Tensor) -> Tensor:
    """Standardized features [B, F] of a model with a skip."""
    assert model.skip is not None
    return model.skip.standardized(model.skip_features(window_BCT))


def from_state(state: dict[str, Tensor]) -> UnknownScore:
    """The score of stored buffers."""
    prototypes, features = state["prototype"].shape
    score = UnknownScore(features, prototypes, len(state["bias"]))
    score.load_state_dict(state)
    return score.eval()
