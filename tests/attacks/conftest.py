"""A server to attack."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from edgesparse_runtime.bundle.read import Bundle
from tests.support.running import Running, running


@pytest.fixture(scope="session")
def server(shared_bundle: Bundle) -> Iterator[Running]:
    with running(f"pump={shared_bundle.path}", "--max-body", 1 << 20) as started:
        yield started
