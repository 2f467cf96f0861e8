"""Two processes give the single-process result, and a killed run that is resumed the uninterrupted one."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from torch import nn

from edgesparse.model.dropout import Dropout
from edgesparse.training.checkpoint import read_tensors
from edgesparse.training.parallel.accelerate_processes import SharedDropout
from edgesparse.training.parallel.processes import Processes, gather_gradients, spread_gradients
from tests.support.processes import start as start_process
from tests.support.synthetic import make_series
from tests.support.tolerances import PROCESSES, PROCESSES_LOSS

SETTINGS = (
    "model.width=16 model.num_heads=2 model.filters=8 model.dilations=[1,4] model.thresholds=2 "
    "model.block_size=8 model.patch=8 training.budget=0.5 training.batch_size=7 "
    "training.learning_rate=0.005 training.threads=1 training.auxiliary_weight=0.2 "
    "training.consistency_weight=0.2"
)


def start(data: Path, out: Path, launcher: list[str], *more: str, epochs: int = 8) -> subprocess.Popen[str]:
    sets = [part for setting in SETTINGS.split() for part in ("--set", setting)]
    arguments = ["train", str(data), "-o", str(out), "--epochs", str(epochs), *sets, *more]
    return start_process(sys.executable, *launcher, "-m", "edgesparse_runtime.cli", *arguments)


def finish(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return out


TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
# What Accelerate calls several GPUs is how it starts several processes; ours compute on the CPU.
ACCELERATE = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
ACCELERATE += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
ACCELERATE += ["--main_process_port", "0"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Unequal lengths, classes of unequal size, and batches of seven: nothing divides by two."""
    series = make_series(36, unequal=True)
    keep = [i for i in range(36) if i % 4 != 1]
    series = series.take(keep)
    path = tmp_path_factory.mktemp("data") / "waves.npz"
    np.savez(path, X=series.to_batch(), y=series.labels, channels=np.array(series.channels))
    return path


@pytest.fixture(scope="module")
def two(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two processes, uninterrupted."""
    out = tmp_path_factory.mktemp("two") / "run"
    printed = finish(start(data, out, TORCHRUN))
    # One of the two speaks.
    assert printed.count("attention compute") == 1
    return out


def losses(run: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (run / "log.jsonl").read_text().splitlines()]


def weights(run: Path) -> dict[str, torch.Tensor]:
    return read_tensors(run / "model.safetensors")[0]


def test_two_processes_give_the_single_process_result(data: Path, two: Path, tmp_path: Path) -> None:
    finish(start(data, tmp_path / "one", []))
    np.testing.assert_allclose(
        losses(two), losses(tmp_path / "one"), rtol=PROCESSES_LOSS.relative, atol=PROCESSES_LOSS.absolute
    )
    single, shared = weights(tmp_path / "one"), weights(two)
    assert single.keys() == shared.keys()
    for name, expected in single.items():
        if name.endswith("project_in.bias"):
            # A bias of all keys shifts a query's logits alike: no score depends on it, its gradient is
            # rounding noise, and Adam makes steps of noise.
            width = len(expected) // 3
            for of in (expected, shared[name]):
                of[width : 2 * width] = 0.0
        np.testing.assert_allclose(
            shared[name], expected, rtol=PROCESSES.relative, atol=PROCESSES.absolute, err_msg=name
        )


def test_killed_and_resumed_is_the_uninterrupted_run(data: Path, two: Path, tmp_path: Path) -> None:
    process = start(data, tmp_path / "run", TORCHRUN)
    checkpoint = tmp_path / "run" / "checkpoint.safetensors"
    until = time.monotonic() + 240
    while not checkpoint.exists() and time.monotonic() < until and process.poll() is None:
        time.sleep(0.01)
    family = [process, *psutil.Process(process.pid).children(recursive=True)]
    for member in family:
        member.kill()
    process.communicate()
    assert checkpoint.exists() and not (tmp_path / "run" / "run.json").exists()
    finish(start(data, tmp_path / "run", TORCHRUN, "--resume"))
    resumed, whole = weights(tmp_path / "run"), weights(two)
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)
    assert losses(tmp_path / "run") == losses(two)


def test_accelerate_launch_gives_what_torchrun_gives(data: Path, two: Path, tmp_path: Path) -> None:
    finish(start(data, tmp_path / "run", ACCELERATE))
    launched, whole = weights(tmp_path / "run"), weights(two)
    assert all(torch.equal(launched[name], whole[name]) for name in whole)
    shutil.rmtree(tmp_path / "run")


class Part(Processes):
    """One of two processes, without the other."""

    count = 2

    def __init__(self, rank: int, rows: int) -> None:
        self.rank, self.whole_rows = rank, rows

    def take(self, rows: torch.Tensor) -> torch.Tensor:
        middle = len(rows) // 2
        return rows[middle:] if self.rank else rows[:middle]


def test_shared_dropout_is_the_plain_one_cut_in_two() -> None:
    x = torch.randn(7, 5, 3)
    torch.manual_seed(3)
    whole = Dropout(0.4)(x)
    parts = []
    for rank in (0, 1):
        torch.manual_seed(3)
        part = Part(rank, 7)
        parts.append(SharedDropout(Dropout(0.4), part)(part.take(x)))
    assert torch.equal(torch.cat(parts), whole)
    assert torch.equal(SharedDropout(Dropout(0.4), Part(0, 7)).eval()(x), x)


def test_gradients_as_one_vector_come_back() -> None:
    layer = nn.Linear(3, 2)
    layer(torch.ones(1, 3)).sum().backward()
    before = [p.grad.clone() for p in layer.parameters() if p.grad is not None]
    vector, having = gather_gradients(layer.parameters())
    spread_gradients(2 * vector, having)
    for p, old in zip(layer.parameters(), before, strict=True):
        assert p.grad is not None
        torch.testing.assert_close(p.grad, 2 * old)
