"""Checks of untrusted ONNX files before onnxruntime sees them."""

from __future__ import annotations
