"""Property: what shares a request, and how it is encoded, changes no answer of a server."""

from __future__ import annotations

import json

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from edgesparse_runtime.arrays import FloatArray
from edgesparse_runtime.session import Session
from tests.support.recordings.made_data import EXAMPLES, many
from tests.support.running import Running
from tests.support.tolerances import ENGINES

NEAR = {"rtol": ENGINES.relative, "atol": ENGINES.absolute}


def scores_of(server: Running, windows: FloatArray) -> FloatArray:
    answer = server.infer("pump", windows)
    assert answer.status == 200, answer.body
    (scores,) = answer.json["outputs"]
    return np.reshape(np.array(scores["data"], dtype=np.float32), scores["shape"])


def scores_of_bytes(server: Running, windows: FloatArray) -> FloatArray:
    raw = windows.tobytes()
    size = {"binary_data_size": len(raw)}
    tensor = {"name": "window", "datatype": "FP32", "shape": list(windows.shape), "parameters": size}
    head = json.dumps({"inputs": [tensor]}).encode()
    headers = {"Inference-Header-Content-Length": str(len(head))}
    answer = server.ask("POST", "/v2/models/pump/infer", head + raw, headers)
    assert answer.status == 200, answer.body
    (scores,) = answer.json["outputs"]
    return np.reshape(np.array(scores["data"], dtype=np.float32), scores["shape"])


@settings(parent=many, max_examples=max(5, EXAMPLES // 2))
@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(1, 5),
    steps=st.integers(8, 80),
    scale=st.sampled_from([1e-3, 1.0, 1e3]),
    missing=st.sampled_from([0.0, 0.1]),
)
def test_an_answer_depends_on_its_own_window_alone(
    server: Running, session: Session, seed: int, count: int, steps: int, scale: float, missing: float
) -> None:
    """Alone, in a request with others, in another order, as JSON and as bytes: the runner's scores."""
    rng = np.random.default_rng(seed)
    windows = (rng.standard_normal((count, 2, steps)) * scale).astype(np.float32)
    windows[rng.random(windows.shape) < missing] = np.nan
    # A window that ends in missing values would be padded.
    windows[:, :, -1] = 0.5
    expected = session.predict(windows)
    np.testing.assert_allclose(scores_of(server, windows), expected, **NEAR)
    np.testing.assert_allclose(scores_of_bytes(server, windows), expected, **NEAR)
    order = rng.permutation(count)
    np.testing.assert_allclose(scores_of(server, windows[order]), expected[order], **NEAR)
    np.testing.assert_allclose(scores_of(server, windows[:1]), expected[:1], **NEAR)
