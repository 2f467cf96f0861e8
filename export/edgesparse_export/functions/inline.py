"""Inlines functions into the function that calls them: a model carries one function per operator."""

from __future__ import annotations

from collections.abc import Sequence

import onnx
from onnx import helper, inliner


def inline_calls(function: onnx.FunctionProto, parts: Sequence[onnx.FunctionProto]) -> onnx.FunctionProto:
    """`function` with the bodies of `parts` in place of its calls of them, in `If` branches too."""
    model = helper.make_model(
        helper.make_graph([], "none", [], []),
        functions=[function, *parts],
        opset_imports=[*function.opset_import],
        ir_version=10,
    )
    names = [(part.domain, part.name) for part in parts]
    inlined = inliner.inline_selected_functions(model, names)
    found: onnx.FunctionProto = inlined.functions[0]
    used = {node.domain for node in found.node}
    kept = [opset for opset in found.opset_import if opset.domain in used]
    del found.opset_import[:]
    found.opset_import.extend(kept)
    return found
