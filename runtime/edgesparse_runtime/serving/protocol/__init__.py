"""The Open Inference Protocol: requests to arrays, arrays to answers, refusals."""

from __future__ import annotations

from edgesparse_runtime.serving.protocol.answers import Answer as Answer
from edgesparse_runtime.serving.protocol.answers import write_answer as write_answer
from edgesparse_runtime.serving.protocol.refusal import Refusal as Refusal
from edgesparse_runtime.serving.protocol.requests import InferRequest as InferRequest
from edgesparse_runtime.serving.protocol.requests import read_request as read_request
from edgesparse_runtime.serving.protocol.tensors import WindowBounds as WindowBounds

__all__ = ["Answer", "InferRequest", "Refusal", "WindowBounds", "read_request", "write_answer"]
