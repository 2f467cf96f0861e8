"""One mask per model where no window has padding, and the body for queries and keys of the same tokens."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import torch
from torch import nn

from edgesparse.model.transformer import SequenceTransformer, choose_sizes
from edgesparse.presets import tiny
from edgesparse_export.functions.attach import attach_bodies
from edgesparse_export.passes.masks import share_masks
from edgesparse_export.program import to_onnx
from edgesparse_export.trace import trace
from tests.export.passes.test_passes import run_plain


class Masks(nn.Module):
    """Three masks: two over the tokens of `x`, one over those of `y`."""

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, ...]:
        masks = [torch.ones_like(z[..., 0], dtype=torch.bool) for z in (x, x + 1, y)]
        return tuple(mask.sum(1) + z.sum((1, 2)) for mask, z in zip(masks, (x, x + 1, y), strict=True))


def test_masks_of_one_shape_become_one() -> None:
    free = {1: torch.export.Dim.DYNAMIC}
    x, y = torch.randn(2, 5, 3), torch.randn(2, 7, 3)
    model = trace(Masks(), (x, y), ["x", "y"], ["a", "b", "c"], (free, free))
    feeds = {"x": x.numpy(), "y": y.numpy()}
    before = run_plain(ir.to_proto(model), feeds)
    nodes = len(model.graph)
    assert share_masks(model) == 1
    assert len(model.graph) < nodes
    assert share_masks(model) == 0
    np.testing.assert_array_equal(run_plain(ir.to_proto(model), feeds), before)


def test_an_exported_model_has_one_mask_of_its_tokens() -> None:
    torch.manual_seed(0)
    model = SequenceTransformer(choose_sizes(tiny(), [256]), channels=1, outputs=3).eval()
    windows = torch.randn(4, 1, 256)
    model.fit_stem(windows)
    exported = to_onnx(model, windows, lambda scores: scores)
    attention = [n for n in exported.graph if n.op_type in ("SparseAttention", "BlockScores")]
    assert len(attention) >= 4
    assert len({n.inputs[6 if n.op_type == "SparseAttention" else 4] for n in attention}) == 1


def test_only_where_a_router_scored_the_query_are_tokens_the_same() -> None:
    """The body for the same tokens asks the mask how long a query is."""
    lengths = {name: _reads_length_of_query(same) for name, same in (("same", True), ("other", False))}
    assert lengths == {"same": False, "other": True}


def _reads_length_of_query(same: bool) -> bool:
    query, key, mask = (ir.Value(name=name) for name in ("query", "key", "mask"))
    weights = [ir.Value(name=name) for name in ("query_weight", "key_weight")]
    router = ir.node("BlockScores", [query, key, *weights, mask], domain="edgesparse")
    read = query if same else ir.Value(name="other")
    inputs = [read, key, key, router.outputs[0], ir.Value(name="top_p"), ir.Value(name="max_blocks"), mask]
    attention = ir.node("SparseAttention", inputs, domain="edgesparse", num_outputs=2)
    graph = ir.Graph([], [], nodes=[router, attention], opset_imports={"": 18})
    model = ir.Model(graph, ir_version=10)
    attach_bodies(model)
    body = next(f for f in model.functions.values() if f.name == "SparseAttention")
    own = [node for node in body if node.op_type == "Shape"]
    return any(node.inputs[0] is body.inputs[0] for node in own)
