"""Sparse attention over a prompt and dense attention over a cache, in one graph that holds the weights once.

While a decoder is traced, each attention layer is one placeholder node. Here it becomes an `If`:

1. Nothing in the cache: `edgesparse::SparseAttention`, and with it all that only it needs (the router), which
   moves into the branch. The new keys and values are the cache.
2. A cache: plain attention of the new tokens over the cache and themselves, in standard operators
   (`functions/cached_attention.py`). It computes no router.

Shapes: `B` rows, `N` new tokens, `P` tokens in the cache, `G` key/value heads, `D` head size.
"""

from __future__ import annotations

import onnx_ir as ir

from edgesparse_export.functions.cached_attention import NAME as CACHED
from edgesparse_export.functions.domain import DOMAIN

PLACEHOLDER = "PrefillOrCached"
# A placeholder's first inputs are those of SparseAttention; the cache of its layer follows.
_SPARSE_INPUTS = 7
_AXES = [0, 2, 1, 3]


def branch_on_cache(model: ir.Model) -> None:
    """Replace every placeholder by its `If`: the length of the cache alone decides how a layer computes."""
    graph = model.graph
    for node in [node for node in graph if (node.domain, node.op_type) == (DOMAIN, PLACEHOLDER)]:
        _replace(graph, node)


def _replace(graph: ir.Graph, node: ir.Node) -> None:
    past_key = node.inputs[_SPARSE_INPUTS]
    assert past_key is not None
    head = _Nodes(name=f"{node.name}.head")
    length = head.add("Shape", [past_key], start=2, end=3)
    is_prompt = head.add("Squeeze", [head.add("Equal", [length, head.integers([0])])])
    taken = _exclusive_inputs(graph, node)
    graph.remove(taken)
    branch = ir.node("If", [is_prompt], {
        "then_branch": _prompt_branch(node, taken), "else_branch": _cached_branch(node),
    }, num_outputs=len(node.outputs), name=f"{node.name}.branch")  # fmt: skip
    branch.metadata_props.update(node.metadata_props)
    graph.insert_before(node, [*head.nodes, branch])
    for old, new in zip(node.outputs, branch.outputs, strict=True):
        new.name, new.type, new.shape = old.name, old.type, old.shape
    ir.convenience.replace_all_uses_with(node.outputs, branch.outputs, replace_graph_outputs=True)
    graph.remove(node, safe=True)


def _exclusive_inputs(graph: ir.Graph, node: ir.Node) -> list[ir.Node]:
    """Nodes that nothing but the sparse operator needs, in their order."""
    # Queries, keys and values are needed by both branches.
    wanted = {value.producer() for value in node.inputs[3:_SPARSE_INPUTS] if value is not None}
    taken: set[ir.Node] = set()
    stack = [found for found in wanted if found is not None]
    kept = {value.producer() for value in node.inputs[:3] if value is not None}
    while stack:
        found = stack.pop()
        if found in taken or found in kept or found.graph is not graph:
            continue
        if any(value.is_graph_output() for value in found.outputs):
            continue
        if any(use.node not in taken and use.node is not node for v in found.outputs for use in v.uses()):
            # A later user may be taken yet: it is looked at again from there.
            continue
        taken.add(found)
        stack += [p for v in found.inputs if v is not None and (p := v.producer()) is not None]
    return [found for found in graph if found in taken]


def _prompt_branch(node: ir.Node, taken: list[ir.Node]) -> ir.Attr:
    made = _Nodes(taken, name=f"{node.name}.prompt")
    attributes = {name: value for name, value in node.attributes.items()}
    sparse = ir.Node(DOMAIN, "SparseAttention", node.inputs[:_SPARSE_INPUTS], attributes, num_outputs=2)
    made.take(sparse)
    groups = attributes["kv_num_heads"].as_int()
    outputs = [*sparse.outputs]
    for value in node.inputs[1:3]:
        assert value is not None
        heads = made.add("Reshape", [value, made.integers([0, 0, groups, -1])])
        outputs.append(made.add("Transpose", [heads], perm=_AXES))
    return made.branch("then_branch", outputs, node)


def _cached_branch(node: ir.Node) -> ir.Attr:
    made = _Nodes(name=f"{node.name}.cached")
    attributes = {name: node.attributes[name] for name in ("num_heads", "kv_num_heads", "scale")}
    inputs = [*node.inputs[:3], *node.inputs[_SPARSE_INPUTS:]]
    cached = ir.Node(DOMAIN, CACHED, inputs, attributes, num_outputs=3)
    made.take(cached)
    # No block is selected.
    none = made.add("ConstantOfShape", [made.integers([0, 0, 0, 0])], value=ir.tensor([False]))
    mixed, key, value = cached.outputs
    return made.branch("else_branch", [mixed, none, key, value], node)


class _Nodes:
    """Nodes of a graph in the making."""

    def __init__(self, nodes: list[ir.Node] | None = None, *, name: str) -> None:
        self.nodes, self._name = list(nodes or ()), name

    def take(self, node: ir.Node) -> None:
        """Add a new node; its outputs get names that no graph of the model has yet."""
        for i, value in enumerate(node.outputs):
            value.name = f"{self._name}.{len(self.nodes)}.{i}"
        self.nodes.append(node)

    def add(self, kind: str, inputs: list[ir.Value | None], **attributes: object) -> ir.Value:
        """The output of a new node."""
        self.take(ir.node(kind, inputs, attributes))  # type: ignore[arg-type]
        return self.nodes[-1].outputs[0]

    def integers(self, values: list[int]) -> ir.Value:
        """A constant, int64 [n]."""
        return self.add("Constant", [], value_ints=values)

    def branch(self, name: str, outputs: list[ir.Value], node: ir.Node) -> ir.Attr:
        """The nodes as a branch; outputs have the types of the node's."""
        named = []
        for value, like in zip(outputs, node.outputs, strict=True):
            # A branch has outputs of its own, also where it passes a value of the graph around it on.
            out = self.add("Identity", [value])
            out.type = like.type
            named.append(out)
        return ir.AttrGraph(name, ir.Graph([], named, nodes=self.nodes, name=self._name))
