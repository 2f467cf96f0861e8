"""Training on several processes, on one machine or many, through Hugging Face Accelerate.

`accelerate launch` or `torchrun` starts the processes; each holds the whole (small) data set and computes
its rows of every batch. Gradients are averaged as one vector, in one call, so that a resumed run adds them
in the same order. The batch is that of a single process: `batch_size` counts the rows of all processes.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from edgesparse.model.dropout import Dropout
from edgesparse.training.parallel.processes import Processes, gather_gradients, spread_gradients
from edgesparse_runtime.errors import InputError


def is_launched() -> bool:
    """True in a process that `accelerate launch` or `torchrun` started as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


class AcceleratedProcesses(Processes):
    """One of several processes."""

    def __init__(self) -> None:
        from accelerate import Accelerator

        self._accelerator: Any = Accelerator(cpu=True)
        self.count = self._accelerator.num_processes
        self.rank = self._accelerator.process_index
        self.is_main = bool(self._accelerator.is_main_process)

    def prepare(self, model: nn.Module) -> None:
        for name, module in list(model.named_modules()):
            if isinstance(module, Dropout):
                parent = model.get_submodule(name.rpartition(".")[0])
                setattr(parent, name.rpartition(".")[2], SharedDropout(module, self))

    def bounds(self, rows: int) -> tuple[int, int]:
        """First row and end (exclusive) of this process's part of `rows` rows."""
        return rows * self.rank // self.count, rows * (self.rank + 1) // self.count

    def take(self, rows: Tensor) -> Tensor:
        if len(rows) < self.count:
            raise InputError(
                f"A batch must hold at least one series per process ({self.count}); got {len(rows)}. "
                f"Start fewer processes."
            )
        self.whole_rows = len(rows)
        start, end = self.bounds(len(rows))
        return rows[start:end]

    def mean(self, loss: Tensor, weight: Tensor | float, whole: Tensor | float) -> Tensor:
        return loss * (weight * self.count / whole)

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        vector, having = gather_gradients(parameters)
        spread_gradients(self.sum(vector) / self.count, having)

    def sum(self, values: Tensor) -> Tensor:
        total: Tensor = self._accelerator.reduce(values, reduction="sum")
        return total

    def agree(self, flag: bool) -> bool:
        return bool(self.sum(torch.tensor(float(flag and self.is_main))) > 0)

    def wait(self) -> None:
        self._accelerator.wait_for_everyone()

    def close(self) -> None:
        """Leave the process group."""
        self._accelerator.end_training()


class SharedDropout(nn.Module):
    """Dropout whose noise is drawn for the whole batch, so that it depends on no division of rows."""

    def __init__(self, plain: nn.Module, processes: Processes) -> None:
        super().__init__()
        self.plain = plain
        self._processes = processes

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        noise = self.plain(torch.ones(self._processes.whole_rows, *x.shape[1:], dtype=x.dtype))
        return x * self._processes.take(noise)
