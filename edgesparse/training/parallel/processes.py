"""Who computes a training step: one process, or several (`accelerate_processes`).

The loop draws everything random for the whole batch and then takes this process's rows, so that the number
of processes changes where a step is computed, not what.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn


class Processes:
    """One process: it has every row, and none to wait for."""

    count = 1
    is_main = True
    # Rows of the current batch, over all processes.
    whole_rows = 0

    def prepare(self, model: nn.Module) -> None:
        """Make the model's own randomness (dropout) that of the whole batch."""

    def take(self, rows: Tensor) -> Tensor:
        """This process's part of a tensor with one entry per row of the whole batch."""
        return rows

    def mean(self, loss: Tensor, weight: Tensor | float, whole: Tensor | float) -> Tensor:
        """A mean over this process's rows, scaled so that the average over processes is the batch's mean.

        Args:
            weight: total weight of the rows here, and
            whole: in the whole batch.
        """
        return loss

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Give every process the mean of all gradients."""

    def sum(self, values: Tensor) -> Tensor:
        """Sum over processes."""
        return values

    def agree(self, flag: bool) -> bool:
        """The main process's decision."""
        return flag

    def wait(self) -> None:
        """Wait until every process is here."""


def gather_gradients(parameters: Iterable[nn.Parameter]) -> tuple[Tensor, list[nn.Parameter]]:
    """All gradients as one vector, and the parameters that they belong to."""
    having = [p for p in parameters if p.grad is not None]
    return torch.cat([p.grad.flatten() for p in having if p.grad is not None]), having


def spread_gradients(vector: Tensor, parameters: Iterable[nn.Parameter]) -> None:
    """Write a vector of `gather_gradients` back."""
    start = 0
    for p in parameters:
        assert p.grad is not None
        p.grad.copy_(vector[start : start + p.numel()].view_as(p))
        start += p.numel()
