"""Training: data, loop, budget, schedule, evaluation, and the run folder it leaves."""

from __future__ import annotations
