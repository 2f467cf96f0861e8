"""What is attacked: a server, and the operator library."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from edgesparse_runtime.bundle.read import Bundle
from tests.support.kernels.fixtures import kernels_build as kernels_build
from tests.support.kernels.fixtures import library as library
from tests.support.running import Running, running


@pytest.fixture(scope="session")
def server(shared_bundle: Bundle) -> Iterator[Running]:
    with running(f"pump={shared_bundle.path}", "--max-body", 1 << 20) as started:
        yield started
