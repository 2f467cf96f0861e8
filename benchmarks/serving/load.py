"""A load generator for `edgesparse serve` that checks every answer against its own input.

Raw HTTP/1.1 with the binary tensor extension over kept-alive connections, one request at a time on each
(closed loop). An answer counts when its status is 200, its id is the request's, and its scores are those of
its own window by the model that the answer names (by bundle hash).
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
# docs/reference/numerics.md, between engines.
_RELATIVE, _ABSOLUTE = 1e-4, 1e-5


@dataclass
class Load:
    """What came of a load.

    Attributes:
        asked, answered: requests.
        statuses: by code; 0 = the connection broke before an answer.
        mixed_up: answers that are not those of their own input; `unknown` = of a bundle that nobody made.
        seconds: of the whole; `latencies` of single requests.
        by_bundle: answers by bundle hash.
        client_seconds: processor time of this process.
    """

    asked: int = 0
    answered: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    mixed_up: int = 0
    unknown: int = 0
    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    by_bundle: Counter[str] = field(default_factory=Counter)
    client_seconds: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        p50, p99 = np.percentile(self.latencies, [50, 99]) if self.latencies else (0.0, 0.0)
        return {
            "asked": self.asked,
            "answered": self.answered,
            "statuses": {str(k): v for k, v in self.statuses.items()},
            "mixed_up": self.mixed_up,
            "unknown_bundle": self.unknown,
            "seconds": self.seconds,
            "rate": self.answered / self.seconds if self.seconds else 0.0,
            "p50_ms": 1e3 * float(p50),
            "p99_ms": 1e3 * float(p99),
            "bundles": len(self.by_bundle),
            "client_ms_per_request": 1e3 * self.client_seconds / max(1, self.answered),
        }


def make_requests(path: str, windows: Sequence[FloatArray], port: int) -> list[bytes]:
    """The bytes of one request a window [1, channels, steps]; its id is its position."""
    made = []
    for i, window in enumerate(windows):
        raw = window.astype("<f4").tobytes()
        tensor = {
            "name": "window",
            "datatype": "FP32",
            "shape": list(window.shape),
            "parameters": {"binary_data_size": len(raw)},
        }
        asked = {"id": str(i), "inputs": [tensor], "parameters": {"binary_data_output": True}}
        body = json.dumps(asked).encode()
        head = (
            f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: {len(body) + len(raw)}\r\n"
            f"Inference-Header-Content-Length: {len(body)}\r\n\r\n"
        )
        made.append(head.encode() + body + raw)
    return made


async def run_load(
    port: int,
    requests: Sequence[bytes],
    expected: Mapping[str, FloatArray],
    *,
    count: int,
    connections: int,
    most_seconds: float,
) -> Load:
    """Send `count` requests over `connections`, for at most `most_seconds`.

    Args:
        requests: of `make_requests`; taken in turns, so that neighbors differ.
        expected: scores [requests, k] by bundle hash; empty = answers are not checked against models.
    """
    load = Load()
    start, cpu = time.perf_counter(), time.process_time()
    end = start + most_seconds
    clients = [_client(port, requests, expected, count, end, load) for _ in range(connections)]
    await asyncio.gather(*clients)
    load.seconds = time.perf_counter() - start
    load.client_seconds = time.process_time() - cpu
    return load


async def _client(
    port: int,
    requests: Sequence[bytes],
    expected: Mapping[str, FloatArray],
    count: int,
    end: float,
    load: Load,
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        while load.asked < count and time.perf_counter() < end:
            at = load.asked % len(requests)
            load.asked += 1
            start = time.perf_counter()
            try:
                writer.write(requests[at])
                head = await reader.readuntil(b"\r\n\r\n")
                body = await reader.readexactly(int(_header(head, b"content-length")))
            except (OSError, EOFError):
                load.statuses[0] += 1
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                continue
            load.latencies.append(time.perf_counter() - start)
            status = int(head[9:12])
            load.statuses[status] += 1
            if status == 200:
                load.answered += 1
                _check(head, body, at, expected, load)
    finally:
        writer.close()


def _check(head: bytes, body: bytes, at: int, expected: Mapping[str, FloatArray], load: Load) -> None:
    length = int(_header(head, b"inference-header-content-length"))
    bundle = _header(head, b"edgesparse-bundle").decode()
    load.by_bundle[bundle] += 1
    if b'"id": "%d"' % at not in body[:length]:
        load.mixed_up += 1
        return
    if not expected:
        return
    if bundle not in expected:
        load.unknown += 1
        return
    own = expected[bundle][at]
    scores = np.frombuffer(body, "<f4", offset=length)
    if scores.shape != own.shape or (np.abs(scores - own) > _ABSOLUTE + _RELATIVE * np.abs(own)).any():
        load.mixed_up += 1


def _header(head: bytes, name: bytes) -> bytes:
    at = head.index(b"\n" + name + b": ") + len(name) + 3
    return head[at : head.index(b"\r", at)]
