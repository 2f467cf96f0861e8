"""The function body of `edgesparse::SampledScores`: the sampled router, traced once for all layers.

One node per layer: in standard operators the exporter had not ended after ten minutes on thirty layers.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir
import torch

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
    if len({(r.heads, r.groups, r.scale) for r in routers}) > 1:
        raise InputError("All layers with sampled queries must have the same heads and scale.")
    function = traced_function(_traced(routers[0], layers[0].head_size), nodes[0])
    model.functions[function.identifier()] = function
    model.opset_imports[DOMAIN] = VERSION


def _traced(router: SampledRouter, head_size: int) -> ir.Model:
    tokens = 3 * router.block_size + 1
    query = torch.randn(2, tokens, router.heads * head_size)
    key = torch.randn(2, tokens, router.groups * head_size)
    mask = torch.ones(2, tokens, dtype=torch.bool)
    free = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    return trace(router, [query, key, mask], ["query", "key", "mask"], ["block_scores"], [free] * 3)
