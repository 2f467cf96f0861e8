"""Each operator as a model-local ONNX function of standard operators."""

from __future__ import annotations
