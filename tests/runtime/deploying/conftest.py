"""A dense model beside the sparse one."""

from tests.runtime.serving.conftest import dense_bundle as dense_bundle
