"""A Ray Serve application of a bundle: replicas, autoscaling, and requests that outlive a replica.

The HTTP side is ours (`serving.protocol`), so the same clients work. Two deployments: `Front` reads and
answers requests and is light; `Model` holds the session. When a `Model` replica dies with a request in it,
`Front` tries another one: inference changes nothing, so trying twice does no harm.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ray import serve
from ray.exceptions import RayError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from edgesparse_runtime.serving.addresses import Address
from edgesparse_runtime.serving.http.auth import AccessControl
from edgesparse_runtime.serving.protocol.answers import write_answer
from edgesparse_runtime.serving.protocol.refusal import Refusal
from edgesparse_runtime.serving.protocol.requests import read_request
from edgesparse_runtime.serving.protocol.tensors import FloatArray
from edgesparse_runtime.serving.sandbox import rehearse
from edgesparse_runtime.serving.served_model import load
from edgesparse_runtime.serving.settings import Settings

ATTEMPTS = 6


class Model:
    """Holds the session; batches windows of equal length."""

    def __init__(self, bundle: str, settings: Settings, bundle_hash: str) -> None:
        self._model = load(Address("model", "1", Path(bundle)), settings, bundle_hash)

    def scores(self, window: FloatArray) -> FloatArray:
        """As `ServedModel.scores`, of windows [n, channels, steps]."""
        return self._model.scores(window)

    def pid(self) -> int:
        """The replica's process, for tests that end it."""
        return os.getpid()


class Front:
    """Open Inference Protocol over HTTP, for one model."""

    def __init__(self, model: Any, name: str, bundle: str, settings: Settings, bundle_hash: str) -> None:
        self._handle = model
        self._name = name
        self._bounded = settings
        self._access = AccessControl(None, settings.host_names)
        self._served = load(Address(name, "1", Path(bundle)), settings, bundle_hash)

    async def __call__(self, request: Request) -> Response:
        try:
            self._access.check(request.url.path, request.headers)
            return await self._answer(request)
        except Refusal as refusal:
            return JSONResponse({"error": refusal.message}, refusal.status, headers=refusal.headers)

    async def _answer(self, request: Request) -> Response:
        path = request.url.path.rstrip("/")
        stem = f"/v2/models/{self._name}"
        if request.method == "GET" and path in ("/v2/health/live", "/v2/health/ready", f"{stem}/ready"):
            return JSONResponse({"ready": True})
        if request.method == "GET" and path in (stem, f"{stem}/versions/1"):
            return JSONResponse(self._served.metadata(["1"]))
        if request.method != "POST" or path not in (f"{stem}/infer", f"{stem}/versions/1/infer"):
            raise Refusal(404, f"There is nothing at this path; POST {stem}/infer returns scores.")
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > self._bounded.max_body:
                raise Refusal(413, f"A request must be at most {self._bounded.max_body} bytes.")
        header = request.headers.get("inference-header-content-length")
        asked = read_request(body, header, self._served.bounds, self._served.output_names("infer"))
        scores = await self._scores(asked.window)
        outputs = self._served.outputs(scores)
        answer = write_answer(asked, self._name, "1", self._served.parameters(), outputs)
        head = answer.head_length
        response = Response(
            answer.content(), media_type="application/json" if head is None else "application/octet-stream"
        )
        if head is not None:
            response.headers["inference-header-content-length"] = str(head)
        response.headers["edgesparse-version"] = "1"
        response.headers["edgesparse-bundle"] = self._served.bundle_hash
        return response

    async def _scores(self, window: FloatArray) -> FloatArray:
        """Scores of a replica; when it dies meanwhile, those of another."""
        for attempt in range(ATTEMPTS):
            try:
                scores: FloatArray = await self._handle.scores.remote(window)
                return scores
            except RayError:
                if attempt == ATTEMPTS - 1:
                    raise Refusal(503, "No replica answered; try again.", {"Retry-After": "1"}) from None
                await asyncio.sleep(0.05 * 2**attempt)
        raise AssertionError("unreachable")


def make_application(
    bundle: str,
    *,
    name: str = "model",
    precision: str = "auto",
    threads: int = 1,
    min_replicas: int = 2,
    max_replicas: int = 2,
    cpus: float = 1.0,
    trusted_keys: tuple[str, ...] = (),
    host_names: tuple[str, ...] = (),
) -> serve.Application:
    """The application; `serve.run(make_application("pump.edgesparse"))` starts it.

    Args:
        name: in the request's path.
        min_replicas, max_replicas: of the model; between them Ray scales with the requests in flight.
        cpus: that Ray sets aside for a model replica.
        trusted_keys: files of public keys; every process of the application requires a signature by one.
        host_names: names besides loopback ones that a request may give this machine.

    Raises:
        EdgeSparseError: the bundle does not load, is not signed as required, or fails its rehearsal. Every
            replica then loads this bundle and no other, whatever takes its place on disk.
    """
    path = Path(bundle).resolve()
    settings = Settings(
        precision=precision,
        threads=threads,
        trusted_keys=tuple(Path(key).resolve() for key in trusted_keys),
        host_names=host_names,
    )
    bundle_hash = rehearse(Address(name, "1", path), settings)
    scaling: dict[str, Any] = (
        {"num_replicas": min_replicas}
        if min_replicas == max_replicas
        else {"autoscaling_config": {"min_replicas": min_replicas, "max_replicas": max_replicas}}
    )
    as_model: Callable[[type], Any] = serve.deployment(
        name="Model", ray_actor_options={"num_cpus": cpus}, max_ongoing_requests=8, **scaling
    )
    as_front: Callable[[type], Any] = serve.deployment(
        name="Front", ray_actor_options={"num_cpus": 0}, max_ongoing_requests=256
    )
    application: serve.Application = as_front(Front).bind(
        as_model(Model).bind(str(path), settings, bundle_hash), name, str(path), settings, bundle_hash
    )
    return application


def run_application(application: serve.Application, port: int, on_ready: Callable[[], None]) -> None:
    """Run on loopback until Ctrl-C or SIGTERM, on the cluster that RAY_ADDRESS names or one started here."""
    import ray

    ended = threading.Event()
    # Ray calls home unless told not to; a factory network must not see any of it.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if not ray.is_initialized():
        ray.init(
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            ignore_reinit_error=True,
        )
    try:
        serve.start(http_options={"host": "127.0.0.1", "port": port})
        serve.run(application, name="edgesparse", route_prefix="/")
        signal.signal(signal.SIGTERM, lambda *_: ended.set())
        on_ready()
        sys.stdout.flush()
        # A wait without a limit would not notice Ctrl-C on every system.
        while not ended.wait(1.0):
            pass
    finally:
        serve.shutdown()
        ray.shutdown()
