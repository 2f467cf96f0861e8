"""Tests of `edgesparse_runtime.explain`."""
