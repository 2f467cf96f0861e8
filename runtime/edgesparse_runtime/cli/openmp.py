"""How torch's OpenMP threads wait for each other, set before torch is loaded."""

from __future__ import annotations

import os

# Turns of the waiting loop before a thread sleeps, some microseconds. GNU OpenMP's own choice, with no end in
# practice, makes two threads wait for a core that other work holds: training then takes many times as long as
# with one thread. Sleeping at once costs more than a second thread gains on small models.
SPIN_COUNT = "3000"


def wait_briefly() -> None:
    """Let waiting threads yield their core; variables that are set already are kept."""
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)
