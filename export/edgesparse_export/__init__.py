"""Export trained models to ONNX and bundles, and quantize them."""

from __future__ import annotations

from edgesparse_export.functions.sparse_attention import function_body as function_body
from edgesparse_export.program import to_onnx as to_onnx
from edgesparse_export.quantize.bundle import quantize_bundle as quantize_bundle
from edgesparse_export.run_bundle import export_run as export_run

__all__ = ["export_run", "function_body", "quantize_bundle", "to_onnx"]
