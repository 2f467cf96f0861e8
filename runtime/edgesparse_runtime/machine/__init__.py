"""What this machine is and allows: processor, threads, cgroup limits, memory, throttling."""

from __future__ import annotations
