"""A factory network sees nothing of the runner."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from edgesparse_runtime.bundle.read import Bundle
from tests.support.network_attempts import Attempts, can_isolate, missing_tool, watch

Watches = dict[bool, Future[Attempts]]


@pytest.fixture(scope="module")
def watches(shared_bundle: Bundle) -> Watches:
    """Two processes by whether telemetry is on; both at once, as they mostly wait."""
    if reason := missing_tool():
        pytest.skip(reason)
    # Telemetry is not sent to prove a point.
    kinds = (False, True) if can_isolate() else (False,)
    with ThreadPoolExecutor(2) as pool:
        return {on: pool.submit(watch, shared_bundle.path, telemetry_on=on) for on in kinds}


@pytest.mark.slow
def test_no_connection_is_attempted(watches: Watches) -> None:
    attempts = watches[False].result()
    assert attempts.calls == []
    # onnxruntime's telemetry keeps a data base and a device id in ~/.cache.
    assert attempts.files == []


@pytest.mark.slow
def test_the_watch_sees_telemetry_that_is_on(watches: Watches) -> None:
    """The test above can fail: the same process, told to send telemetry, is caught."""
    if True not in watches:
        pytest.skip("no network namespace can be made here, and telemetry is not sent to prove a point")
    attempts = watches[True].result()
    if not attempts.calls and not attempts.files:
        pytest.skip("this build of onnxruntime has no telemetry")
    assert attempts.calls
    assert any(name.endswith("onnxruntime.db") for name in attempts.files)
