"""A client that no one here wrote: `tritonclient[http]`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from edgesparse_runtime.session import Session
from tests.support.running import Running
from tests.support.tolerances import ENGINES

# Before gevent: what it patches must not be patched twice.
client_module = pytest.importorskip("tritonclient.http", reason="tritonclient[http] is not installed")
from tritonclient.utils import InferenceServerException  # noqa: E402

WINDOW = np.random.default_rng(1).standard_normal((3, 2, 200)).astype(np.float32)


@pytest.fixture
def client(server: Running) -> Iterator[Any]:
    made = client_module.InferenceServerClient(f"127.0.0.1:{server.port}")
    yield made
    made.close()


def make_input(window: np.ndarray[Any, Any], datatype: str = "FP32", binary: bool = True) -> Any:
    tensor = client_module.InferInput("window", window.shape, datatype)
    tensor.set_data_from_numpy(window, binary_data=binary)
    return tensor


def test_health_and_metadata(client: Any) -> None:
    assert client.is_server_live() and client.is_server_ready()
    assert client.is_model_ready("pump") and client.is_model_ready("pump", "1")
    assert not client.is_model_ready("nope")
    assert client.get_server_metadata()["name"] == "edgesparse"
    metadata = client.get_model_metadata("pump", "2")
    assert metadata["versions"] == ["1", "2"]
    assert metadata["outputs"] == [{"name": "scores", "datatype": "FP32", "shape": [-1, 2]}]


@pytest.mark.parametrize("binary", [False, True])
def test_infer(client: Any, session: Session, binary: bool) -> None:
    outputs = [client_module.InferRequestedOutput("scores", binary_data=binary)]
    result = client.infer(
        "pump", [make_input(WINDOW, binary=binary)], model_version="2", outputs=outputs, request_id="a7"
    )
    np.testing.assert_allclose(
        result.as_numpy("scores"), session.predict(WINDOW), ENGINES.relative, ENGINES.absolute
    )
    assert result.get_response()["id"] == "a7"
    assert len(result.get_response()["parameters"]["bundle_sha256"]) == 64


@pytest.mark.parametrize(
    ("name", "window", "datatype", "status", "message"),
    [
        ("nope", WINDOW, "FP32", "404", "no model 'nope'"),
        ("pump", WINDOW[:, :1], "FP32", "400", "must have shape"),
        ("pump", WINDOW.astype(np.float64), "FP64", "400", "datatype FP32; got FP64"),
        ("pump", np.zeros((1, 2, 200_000), np.float32), "FP32", "413", "at most 1048576 bytes"),
    ],
    ids=["bad name", "bad shape", "bad type", "oversize"],
)
def test_refusals(
    client: Any, name: str, window: np.ndarray[Any, Any], datatype: str, status: str, message: str
) -> None:
    with pytest.raises(InferenceServerException) as caught:
        client.infer(name, [make_input(window, datatype)])
    assert caught.value.status() == status
    assert message in caught.value.message()


def test_a_wrong_output_is_refused(client: Any) -> None:
    with pytest.raises(InferenceServerException, match="one of scores"):
        client.infer("pump", [make_input(WINDOW)], outputs=[client_module.InferRequestedOutput("logits")])
