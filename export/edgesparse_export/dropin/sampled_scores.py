"""The function body of `edgesparse::SampledScores`: the sampled router, traced once for all layers.

One node per layer: in standard operators the exporter had not ended after ten minutes on thirty layers.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir
import torch
from torch import Tensor, nn

from edgesparse.dropin.attention import DropinAttention
from edgesparse.dropin.sampled_router import SampledRouter
from edgesparse_export.functions.domain import DOMAIN, VERSION
from edgesparse_export.functions.traced import traced_function
from edgesparse_export.passes.emit_operators import SAMPLED
from edgesparse_export.trace import trace
from edgesparse_runtime.errors import InputError


def add_sampled_body(model: ir.Model, layers: Sequence[DropinAttention]) -> None:
    """Give a model the function of its `SampledScores` nodes, where it has any.

    Raises:
        InputError: layers whose routers differ in more than their input; one body fits one of them only.
    """
    nodes = [n for n in model.graph.all_nodes() if (n.domain, n.op_type) == (DOMAIN, SAMPLED)]
    if not nodes:
        return
    routers = [layer.router for layer in layers if isinstance(layer.router, SampledRouter)]
    if len({(r.heads, r.groups, r.scale) for r in routers}) > 1 or len({len(n.inputs) for n in nodes}) > 1:
        raise InputError("All layers with sampled queries must have the same heads and scale.")
    function = traced_function(_traced(routers[0], layers[0].head_size, len(nodes[0].inputs) == 3), nodes[0])
    model.functions[function.identifier()] = function
    model.opset_imports[DOMAIN] = VERSION


class _Router(nn.Module):
    """A router whose inputs are tensors, or left out."""

    def __init__(self, router: SampledRouter) -> None:
        super().__init__()
        self.router = router

    def forward(self, query_BNC: Tensor, key_BNC: Tensor, key_mask_BN: Tensor | None = None) -> Tensor:
        scores: Tensor = self.router(query_BNC, key_BNC, key_mask_BN)
        return scores


def _traced(router: SampledRouter, head_size: int, has_mask: bool) -> ir.Model:
    tokens = 3 * router.block_size + 1
    query = torch.randn(2, tokens, router.heads * head_size)
    key = torch.randn(2, tokens, router.groups * head_size)
    mask = [torch.ones(2, tokens, dtype=torch.bool)] if has_mask else []
    free = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    inputs = [query, key, *mask]
    names = ["query", "key", "mask"][: len(inputs)]
    return trace(_Router(router), inputs, names, ["block_scores"], [free] * len(inputs))
