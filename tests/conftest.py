"""Shared by all tests: small data with a known answer, and one model trained and exported on it."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import torch

from edgesparse.training.run_folder import Run, load_run
from edgesparse.training.train import train
from edgesparse_export.quantize.bundle import quantize_bundle
from edgesparse_export.run_bundle import export_run
from edgesparse_runtime.bundle.read import Bundle, open_bundle
from edgesparse_runtime.data.series_set import SeriesSet
from tests.support.built_once import BuiltOnce
from tests.support.kinds import mark_kinds, put_long_files_first
from tests.support.synthetic import make_series, tiny_config


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    mark_kinds(items)
    put_long_files_first(items)


@pytest.fixture(scope="session", autouse=True)
def one_torch_thread() -> Iterator[None]:
    """Small models train fastest, and repeatably, on one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def series() -> SeriesSet:
    return make_series()


@pytest.fixture(scope="session")
def built_once(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> BuiltOnce:
    """Builds a folder once for all workers."""
    return BuiltOnce(request.config, tmp_path_factory.getbasetemp())


@pytest.fixture(scope="session")
def tiny_run(built_once: BuiltOnce, series: SeriesSet) -> Run:
    """A sparse model that has learned the two classes."""
    folder = built_once("tiny", lambda folder: train(series, tiny_config(), folder / "run", quiet=True))
    return load_run(folder / "run")


@pytest.fixture(scope="session")
def exported_bundle(built_once: BuiltOnce, tiny_run: Run, series: SeriesSet) -> Bundle:
    """The run as it is exported, without an int8 model; tests must not change it."""
    build = partial(_export, tiny_run, series)
    return open_bundle(built_once("exported", build) / "tiny.edgesparse")


@pytest.fixture(scope="session")
def shared_bundle(built_once: BuiltOnce, exported_bundle: Bundle, series: SeriesSet) -> Bundle:
    """The run as a bundle with an int8 model, shared: a test that changes its files fails."""
    build = partial(_quantize, exported_bundle, series)
    return open_bundle(built_once("quantized", build) / "tiny.edgesparse")


def _export(run: Run, series: SeriesSet, folder: Path) -> None:
    export_run(run, folder / "tiny.edgesparse", data=series)


def _quantize(exported: Bundle, series: SeriesSet, folder: Path) -> None:
    shutil.copytree(exported.path, folder / "tiny.edgesparse")
    quantize_bundle(open_bundle(folder / "tiny.edgesparse"), data=series, max_drop=0.5)


@pytest.fixture(autouse=True)
def shared_bundle_stays(request: pytest.FixtureRequest) -> Iterator[None]:
    """Compares the shared bundle's files before and after each test that uses it.

    File modes would not do: root may write anyway, and copies made for a test would inherit them.
    """
    if "shared_bundle" not in request.fixturenames:
        yield
        return
    bundle = request.getfixturevalue("shared_bundle")
    before = hash_folder(bundle.path)
    yield
    assert hash_folder(bundle.path) == before, "this test changed the bundle that all tests share"


def hash_folder(folder: Path) -> dict[str, str]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}
