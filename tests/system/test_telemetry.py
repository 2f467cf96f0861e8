"""A factory network sees nothing of the runner."""

from __future__ import annotations

import pytest

from edgesparse_runtime.bundle.read import Bundle
from tests.support.network_attempts import can_isolate, missing_tool, watch


@pytest.mark.slow
def test_no_connection_is_attempted(shared_bundle: Bundle) -> None:
    if reason := missing_tool():
        pytest.skip(reason)
    attempts = watch(shared_bundle.path)
    assert attempts.calls == []
    # onnxruntime's telemetry keeps a data base and a device id in ~/.cache.
    assert attempts.files == []


@pytest.mark.slow
def test_the_watch_sees_telemetry_that_is_on(shared_bundle: Bundle) -> None:
    """The test above can fail: the same process, told to send telemetry, is caught."""
    if reason := missing_tool():
        pytest.skip(reason)
    if not can_isolate():
        pytest.skip("no network namespace can be made here, and telemetry is not sent to prove a point")
    attempts = watch(shared_bundle.path, telemetry_on=True)
    if not attempts.calls and not attempts.files:
        pytest.skip("this build of onnxruntime has no telemetry")
    assert attempts.calls
    assert any(name.endswith("onnxruntime.db") for name in attempts.files)
