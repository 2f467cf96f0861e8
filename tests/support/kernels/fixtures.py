"""The operator library as fixtures; a `conftest.py` that imports them has them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.kernels.build import MissingToolError, build_kernels


@pytest.fixture(scope="session")
def kernels_build() -> Path:
    """The build folder; without the tools to build, a failure in CI and a skip elsewhere."""
    try:
        return build_kernels()
    except MissingToolError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def library(kernels_build: Path) -> Path:
    """The operator library."""
    return kernels_build / "edgesparse_kernels.so"
