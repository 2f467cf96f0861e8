"""The kernel against the function body in one file: the same output within ENGINES, the same selection."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
import onnx
import onnx_ir
import pytest

from edgesparse_export.function_body import SparseAttention
from tests.kernels.cases import CASES, Case
from tests.kernels.models import make_model, open_session
from tests.tolerances import ENGINES

PARITY = [case for case in CASES if case.shape.n and case.shape.m and case.name != "huge_window"]


def with_body(case: Case) -> onnx.ModelProto:
    model = make_model(asdict(case.node()))
    function = onnx_ir.serde.deserialize_function(SparseAttention.to_function_proto())
    model.functions.append(onnx_ir.serde.serialize_function(function))
    return model


@pytest.mark.parametrize("case", PARITY, ids=lambda case: case.name)
def test_kernel_equals_function_body(library: Path, case: Case) -> None:
    model, feeds = with_body(case), case.feeds()
    output, selection = open_session(library, model).run(None, feeds)
    expected, expected_selection = open_session(None, model).run(None, feeds)
    np.testing.assert_array_equal(selection, expected_selection)
    np.testing.assert_allclose(output, expected, rtol=ENGINES.relative, atol=ENGINES.absolute)
