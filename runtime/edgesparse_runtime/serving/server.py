"""The process: listens, watches the bundles, and on SIGTERM or Ctrl-C finishes the requests in flight."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import sys
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from edgesparse_runtime.errors import InputError
from edgesparse_runtime.serving.addresses import Address
from edgesparse_runtime.serving.admission import Admission
from edgesparse_runtime.serving.batching import Batcher
from edgesparse_runtime.serving.http.auth import AccessControl
from edgesparse_runtime.serving.http.connection import LAST_WORD, connection_class
from edgesparse_runtime.serving.http.limits import ConnectionLimits, fit_descriptors
from edgesparse_runtime.serving.http.tls import check_tls
from edgesparse_runtime.serving.log import EventHandler, log
from edgesparse_runtime.serving.memory import bound_arenas, give_back
from edgesparse_runtime.serving.metrics import Metrics
from edgesparse_runtime.serving.monitoring import Monitors
from edgesparse_runtime.serving.registry import Registry
from edgesparse_runtime.serving.routes import Routes
from edgesparse_runtime.serving.settings import Settings
from edgesparse_runtime.serving.shadow.shadows import Shadows
from edgesparse_runtime.stream.monitor.rate import Rate

# Longest time that one thread keeps the interpreter from another.
SWITCH_SECONDS = 0.0005
_BACKLOG = 2048


class _Uvicorn(uvicorn.Server):
    """Uvicorn with our signal handling: the first one shuts down gracefully, a second one at once."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


def serve(
    addresses: Sequence[Address],
    settings: Settings,
    on_ready: Callable[[str, Registry], None] = lambda url, registry: None,
) -> None:
    """Serve until a signal ends it.

    Args:
        on_ready: called with the URL once requests are accepted.

    Raises:
        EdgeSparseError: a bundle does not load, or a setting does not fit.
        InputError: the address is taken.
    """
    bound_arenas()
    token = settings.token()
    check_tls(settings.tls_cert, settings.tls_key)
    admission = Admission(settings.queue, settings.max_body, settings.max_bodies, settings.max_answers)
    metrics = Metrics(admission)
    registry = Registry(addresses, settings, lambda address, outcome, model: metrics.reloaded(outcome, model))
    # Without a token, a request must at least name this machine; behind TLS it may use any name.
    names = settings.host_names if token is None and settings.tls_cert is None else None
    monitors = _open_monitors(registry, settings, metrics)
    listener = _listen(settings)
    with contextlib.closing(listener):
        serving = _serve(
            listener, registry, settings, admission, metrics, monitors, AccessControl(token, names), on_ready
        )
        with asyncio.Runner(loop_factory=_new_loop(settings)) as runner:
            runner.run(serving)


def _open_monitors(registry: Registry, settings: Settings, metrics: Metrics) -> Monitors | None:
    """The monitors of all models that are served.

    Raises:
        InputError: a bundle has no reference, or the rate does not fit it.
    """
    if settings.monitor is None:
        return None
    monitors = Monitors(settings.monitor, Rate.parse(settings.false_alarms), metrics.alarm)
    for model in registry.models():
        monitors.open(model)
    return monitors


def _new_loop(settings: Settings) -> Callable[[], asyncio.AbstractEventLoop]:
    """uvloop's where it is installed (not on Windows), the standard one elsewhere.

    A TLS handshake has the deadline of a request: nothing else bounds it.
    """
    base: Any = asyncio.SelectorEventLoop
    with contextlib.suppress(ImportError):
        import uvloop

        base = uvloop.Loop

    class _Loop(base):  # type: ignore[misc]
        async def create_server(self, *arguments: Any, **options: Any) -> Any:
            if options.get("ssl") is not None:
                options["ssl_handshake_timeout"] = settings.timeout
                options["ssl_shutdown_timeout"] = LAST_WORD
            return await super().create_server(*arguments, **options)

    return _Loop


def _limits(settings: Settings, metrics: Metrics) -> ConnectionLimits:
    connections = fit_descriptors(settings.connections, _BACKLOG)
    if connections < settings.connections:
        log("connections limited", connections=connections, reason="the limit of open descriptors")
    return ConnectionLimits(
        settings.max_head, settings.timeout, connections, lambda s: metrics.refused(s.value), metrics.cut
    )


def _configure(app: ASGIApp, limits: ConnectionLimits, settings: Settings) -> uvicorn.Config:
    logger = logging.getLogger("uvicorn.error")
    logger.handlers, logger.propagate = [EventHandler()], False
    logger.setLevel(logging.WARNING)
    return uvicorn.Config(
        app,
        http=connection_class(limits),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=_BACKLOG,
        timeout_graceful_shutdown=round(settings.grace),
        ssl_certfile=settings.tls_cert,
        ssl_keyfile=settings.tls_key,
    )


async def _serve(
    listener: socket.socket,
    registry: Registry,
    settings: Settings,
    admission: Admission,
    metrics: Metrics,
    monitors: Monitors | None,
    access: AccessControl,
    on_ready: Callable[[str, Registry], None],
) -> None:
    shadows = Shadows(settings)
    batcher = Batcher(
        settings.runs,
        settings.max_batch,
        settings.batch_wait,
        metrics.ran,  # type: ignore[arg-type]
        shadows.ran,  # type: ignore[arg-type]
    )
    metrics.watch(shadows)
    routes = Routes(registry, settings, admission, batcher, metrics, monitors)
    server = _Uvicorn(_configure(routes.application(access), _limits(settings, metrics), settings))
    loop = asyncio.get_running_loop()
    # A runner that returns from the model waits for the interpreter's lock while HTTP is read: up to 5 ms by
    # default, as long as a small model runs.
    sys.setswitchinterval(SWITCH_SECONDS)

    def stop(name: str) -> None:
        if server.should_exit:
            server.force_exit = True
        routes.is_shutting_down = server.should_exit = True
        log("shutting down", signal=name, in_flight=admission.taken)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop, number.name)
    loader = ThreadPoolExecutor(1, thread_name_prefix="edgesparse-load")
    every = settings.reload_every
    watcher = asyncio.create_task(_watch(registry, shadows, loader, every)) if every else None
    announcer = asyncio.create_task(_announce(server, listener, settings, registry, on_ready))
    try:
        await server.serve(sockets=[listener])
    finally:
        announcer.cancel()
        if watcher is not None:
            watcher.cancel()
        await asyncio.to_thread(batcher.close)
        if monitors is not None:
            monitors.save()
        await loop.run_in_executor(loader, shadows.close)
        log("stopped", in_flight=admission.taken)


async def _watch(registry: Registry, shadows: Shadows, loader: ThreadPoolExecutor, every: float) -> None:
    was_replaced = False
    loop = asyncio.get_running_loop()
    while True:
        try:
            # What is overdue in a store is taken back here; the link is looked at afterwards.
            await loop.run_in_executor(loader, shadows.look, registry.models())
        except Exception as error:
            log("shadow failed", error=repr(error))
        await asyncio.sleep(every)
        try:
            if was_replaced:
                # One round later: by now the last request of the old model is answered.
                await loop.run_in_executor(loader, give_back)
            was_replaced = await loop.run_in_executor(loader, registry.reload_changed)
        except Exception as error:
            # A watcher that ends would silently leave the server on old models.
            log("reload failed", error=repr(error))


async def _announce(
    server: uvicorn.Server,
    listener: socket.socket,
    settings: Settings,
    registry: Registry,
    on_ready: Callable[[str, Registry], None],
) -> None:
    while not server.started:
        await asyncio.sleep(0.01)
    scheme = "http" if settings.tls_cert is None else "https"
    host, port = listener.getsockname()[:2]
    url = f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
    for model in registry.models():
        log(
            "serving",
            model=model.address.name,
            version=model.address.version,
            bundle=str(model.address.path),
            bundle_sha256=model.bundle_hash,
            precision=model.session.precision,
            engine=model.session.engine,
        )
    log("ready", url=url, threads=settings.threads, parallel=settings.runs)
    on_ready(url, registry)


def _listen(settings: Settings) -> socket.socket:
    try:
        family, kind, proto, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, proto)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        raise InputError(
            f"{settings.host}:{settings.port}: cannot listen there; {(error.strerror or str(error)).lower()}."
        ) from None
    listener.setblocking(False)
    return listener
