"""PyTorch's exporter, quiet, and with nothing in its result that tells of the machine where it ran."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterable, Sequence
from typing import Any

import onnx_ir as ir
import torch
from torch import Tensor, nn

from edgesparse_export.passes.gelu import halve_last

# Our library and the function body need no newer operator set; onnxruntime 1.22 reads it.
OPSET = 18
# The exporter's note on a node that `profile` reads: the modules that it stands in.
_KEPT = "pkg.torch.onnx.name_scopes"


def trace(
    program: nn.Module,
    inputs: Sequence[Tensor | tuple[Tensor, ...]],
    input_names: Sequence[str],
    output_names: Sequence[str],
    dynamic_shapes: Iterable[Any],
) -> ir.Model:
    """Export a module for these inputs, with the axes of `dynamic_shapes` (of each input) free."""
    with warnings.catch_warnings(), _QuietExporter():
        warnings.simplefilter("ignore")
        exported = torch.onnx.export(
            program,
            tuple(inputs),
            input_names=list(input_names),
            output_names=list(output_names),
            dynamic_shapes=tuple(dynamic_shapes),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    assert exported is not None
    drop_notes(exported.model)
    halve_last(exported.model)
    return exported.model


def drop_notes(model: ir.Model) -> None:
    """Remove what the exporter noted on nodes for whoever debugs it: stack traces with paths, classes.

    A fifth of a small int8 file is such text, and with it the same model gave another file in another folder.
    """
    nodes = [*model.graph.all_nodes(), *(node for f in model.functions.values() for node in f.all_nodes())]
    for node in nodes:
        for key in [key for key in node.metadata_props if key != _KEPT]:
            del node.metadata_props[key]


class _QuietExporter:
    """The exporter logs each pass it considers; a user needs failures only."""

    def __enter__(self) -> None:
        self._loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
        self._levels = [logger.level for logger in self._loggers]
        for logger in self._loggers:
            logger.setLevel(logging.ERROR)

    def __exit__(self, *_: object) -> None:
        for logger, level in zip(self._loggers, self._levels, strict=True):
            logger.setLevel(level)
