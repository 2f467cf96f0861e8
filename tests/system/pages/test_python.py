"""Every Python block of README, CONTRIBUTING and docs runs; `test_commands.py` has the tutorials.

Each runs in a folder that holds what the pages speak of: `demo/appliance_TEST.csv`, `appliance.edgesparse`,
`pump_TRAIN.csv`, `pump_TEST.csv`, `pump.edgesparse` and recordings in `shift/`. Names that a block takes from
the reader, and services that it needs, are in `GIVEN`; a block that needs what is not installed is skipped
with the reason. A block that cannot run at all is preceded by a line `<!-- not run: REASON -->`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from edgesparse_runtime.bundle.read import Bundle
from edgesparse_runtime.data.readers import write_csv
from edgesparse_runtime.data.series_set import SeriesSet
from tests.system.pages.blocks import PAGES, TUTORIALS, Block, read_blocks

BLOCKS = [
    block
    for page in PAGES
    if page not in TUTORIALS
    for block in read_blocks(page)
    if block.language == "python"
]


def give_model(folder: Path, stack: ExitStack) -> dict[str, Any]:
    """A small model of transformers, stored, and batches of its inputs."""
    pytest.importorskip("transformers", reason="needs pip install 'edgesparse[dropin]'")
    from tests.edgesparse.dropin.tiny_models import sharpen, tiny

    model, batch = tiny("bert", tokens=300)
    sharpen(model)
    model.save_pretrained(folder / "model")
    return {"path": folder / "model", "batches": [batch, batch]}


def give_readings(folder: Path, stack: ExitStack) -> dict[str, Any]:
    return {"readings": lambda: [(0.02 * i, (float(i % 7), 1.0)) for i in range(700)]}


def give_ray(folder: Path, stack: ExitStack) -> dict[str, Any]:
    ray = pytest.importorskip("ray", reason="needs pip install 'edgesparse[ray]'")
    stack.callback(ray.shutdown)
    return {}


def give_server(folder: Path, stack: ExitStack) -> dict[str, Any]:
    """A server whose model `pump` takes the page's window: 3 channels, 512 steps."""
    client = pytest.importorskip("tritonclient.http", reason="needs pip install 'tritonclient[http]'")
    from edgesparse.training.train import train
    from edgesparse_export.run_bundle import export_run
    from tests.support.running import running
    from tests.support.synthetic import make_series, tiny_config

    series = make_series(8, channels=3, steps=512)
    run = train(series, tiny_config(epochs=1, min_steps=1), folder / "run", quiet=True)
    bundle, _ = export_run(run, folder / "served.edgesparse", data=series)
    server = stack.enter_context(running(f"pump={bundle.path}"))
    real = client.InferenceServerClient
    stack.enter_context(pytest.MonkeyPatch.context()).setattr(
        client, "InferenceServerClient", lambda _: real(f"127.0.0.1:{server.port}")
    )
    return {}


# What a block needs, by a word that it holds.
GIVEN: dict[str, Callable[[Path, ExitStack], dict[str, Any]]] = {
    "AutoModel": give_model,
    "readings()": give_readings,
    "ray": give_ray,
    "edgesparse_runtime.deploying.ray_scoring": give_ray,
    "tritonclient": give_server,
}


@pytest.fixture(scope="module")
def demo_folder(tmp_path_factory: pytest.TempPathFactory, shared_bundle: Bundle, series: SeriesSet) -> Path:
    folder = tmp_path_factory.mktemp("pages")
    for name in ("demo", "shift"):
        (folder / name).mkdir()
    for name in ("demo/appliance_TEST", "pump_TRAIN", "pump_TEST", "shift/first", "shift/second"):
        write_csv(folder / f"{name}.csv", series)
    for name in ("appliance", "pump"):
        (folder / f"{name}.edgesparse").symlink_to(shared_bundle.path)
    return folder


def test_pages_have_blocks() -> None:
    assert len(BLOCKS) >= 6


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.name)
def test_python_of_a_page_runs(block: Block, demo_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if block.not_run:
        pytest.skip(block.not_run)
    monkeypatch.chdir(demo_folder)
    with ExitStack() as stack:
        names: dict[str, Any] = {}
        for word, give in GIVEN.items():
            if re.search(rf"(?<!\w){re.escape(word)}(?!\w)", block.text):
                names |= give(demo_folder, stack)
        exec(compile(block.text, block.name, "exec"), names)
