"""`ConnectionLimits`: how much of a connection's time, bytes and place one client may use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus

# Connections beyond `connections` that are still accepted, so that health checks are answered.
SPARE = 32
# Patience of a server with few connections, and how many are few.
PATIENCE = 1.0
FEW = 20
# Descriptors that no connection takes: bundles that are reloaded, their sandbox, listeners, logs.
RESERVED_DESCRIPTORS = 96


@dataclass(frozen=True)
class ConnectionLimits:
    """Limits of every connection of a server.

    Attributes:
        max_head: bytes of a request's line and headers, however they are cut into packets.
        seconds: from a request's first byte until its answer is sent.
        connections: that may be open at a time; with more, requests are answered with 503, except health
            checks, and whoever has kept the server waiting longest is disconnected.
        on_refused: told the status of each request that never reached the application.
        on_cut: told the reason of each connection that was cut off: "deadline" or "crowded".
    """

    max_head: int
    seconds: float
    connections: int
    on_refused: Callable[[HTTPStatus], None] = lambda status: None
    on_cut: Callable[[str], None] = lambda reason: None

    @property
    def patience(self) -> float:
        """Seconds that a connection may keep a crowded server waiting before it makes room for another.

        The more connections there are, the less it takes to tell a crowd from clients.
        """
        return PATIENCE / max(1.0, self.connections / FEW)

    @property
    def most(self) -> int:
        """Open connections that are never exceeded."""
        return self.connections + SPARE


def fit_descriptors(connections: int, burst: int = 0) -> int:
    """Raise this process's limit of descriptors for so many connections, as far as the system allows.

    Args:
        burst: connections that may be accepted at once, before any of them can be closed.

    Returns:
        connections that leave `RESERVED_DESCRIPTORS` free; at least 1.
    """
    try:
        import resource
    except ImportError:  # not on Windows
        return connections
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + SPARE + RESERVED_DESCRIPTORS + burst
    if soft != resource.RLIM_INFINITY and soft < wanted:
        raised = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
            soft = raised
        except (ValueError, OSError):  # a sandbox that forbids it
            pass
        return max(1, min(connections, soft - SPARE - RESERVED_DESCRIPTORS))
    return connections
