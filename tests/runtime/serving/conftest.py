"""One server for all tests that do not change it: `pump` 1 (int8) and 2 (float32), and `dense`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from edgesparse.training.train import train
from edgesparse_export.run_bundle import export_run
from edgesparse_runtime.bundle.read import Bundle, open_bundle
from edgesparse_runtime.bundle.write import write_bundle
from edgesparse_runtime.data.series_set import SeriesSet
from edgesparse_runtime.session import Session
from tests.support.built_once import BuiltOnce
from tests.support.running import Running, running
from tests.support.synthetic import tiny_config


@pytest.fixture(scope="session")
def float_bundle(tmp_path_factory: pytest.TempPathFactory, shared_bundle: Bundle) -> Bundle:
    """The shared bundle without its int8 model: what `export` wrote before `quantize`."""
    manifest = {key: value for key, value in shared_bundle.manifest.items() if key != "files"}
    manifest["models"] = {"float32": manifest["models"]["float32"]}
    files = {name: shared_bundle.read(name) for name in ("model.onnx", "golden.npz", "card.md")}
    return write_bundle(tmp_path_factory.mktemp("float") / "pump.edgesparse", files, manifest)


@pytest.fixture(scope="session")
def dense_bundle(built_once: BuiltOnce, series: SeriesSet) -> Bundle:
    """A dense model of the same data, of one layer and a few steps: it need not be good."""

    def build(folder: Path) -> None:
        config = tiny_config(epochs=1, min_steps=1)
        config = replace(config, model=replace(config.model, attention="dense", layers=1))
        few = series.take(range(8))
        run = train(few, config, folder / "run", quiet=True)
        export_run(run, folder / "dense.edgesparse", data=few)

    return open_bundle(built_once("dense", build) / "dense.edgesparse")


@pytest.fixture(scope="session")
def server(shared_bundle: Bundle, float_bundle: Bundle, dense_bundle: Bundle) -> Iterator[Running]:
    with running(
        f"pump:1={shared_bundle.path}",
        f"pump:2={float_bundle.path}",
        dense_bundle.path,
        "--max-body",
        1 << 20,
        "--max-steps",
        2000,
        "--max-windows",
        8,
    ) as started:
        yield started


@pytest.fixture(scope="session")
def session(float_bundle: Bundle) -> Session:
    """The runner's own word on the float32 model."""
    return Session(float_bundle, threads=1)
