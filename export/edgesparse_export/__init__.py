"""Export trained models to ONNX and bundles, and quantize them."""

from __future__ import annotations

from edgesparse_export.exporter import export_run as export_run
from edgesparse_export.function_body import function_body as function_body
from edgesparse_export.onnx_program import to_onnx as to_onnx
from edgesparse_export.quantizer import quantize_bundle as quantize_bundle

__all__ = ["export_run", "function_body", "quantize_bundle", "to_onnx"]
