"""`edgesparse serve`: bundles behind the Open Inference Protocol."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgesparse_runtime.cli.options import Precision, Request, TrustedKeys
from edgesparse_runtime.cli.output import print_fields, print_json
from edgesparse_runtime.cli.require import require
from edgesparse_runtime.serving.addresses import parse_addresses
from edgesparse_runtime.serving.settings import Settings
from edgesparse_runtime.stream.monitor.rate import DEFAULT

if TYPE_CHECKING:
    from edgesparse_runtime.serving.registry import Registry


@dataclass(frozen=True, kw_only=True)
class ServeRequest(Request):
    """Arguments and options of `edgesparse serve`."""

    bundles: Annotated[
        list[str], typer.Argument(help="Bundles, each [NAME[:VERSION]=]PATH.", show_default=False)
    ]
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1"
    port: Annotated[int, typer.Option(help="Port; 0 = any free one.")] = 8000
    precision: Precision = "auto"
    threads: Annotated[int, typer.Option(help="Threads per model run.")] = 1
    parallel: Annotated[int | None, typer.Option(help="Concurrent model runs. [usable cores / threads]")] = (
        None
    )
    max_batch: Annotated[int, typer.Option(help="Maximum windows of equal length per model run.")] = 8
    batch_wait: Annotated[
        float, typer.Option(help="Milliseconds that a window waits for others to share its run.")
    ] = 1.0
    queue: Annotated[int, typer.Option(help="Maximum requests in flight; more are answered with 429.")] = 256
    timeout: Annotated[
        float, typer.Option(help="Seconds from the first byte of a request to its answer.")
    ] = 10.0
    grace: Annotated[float, typer.Option(help="Seconds to wait for in-flight requests at shutdown.")] = 30.0
    max_body: Annotated[int, typer.Option(help="Maximum bytes per request body.")] = 16 << 20
    max_steps: Annotated[int, typer.Option(help="Maximum steps per window.")] = 65_536
    max_windows: Annotated[int, typer.Option(help="Maximum windows per request.")] = 64
    connections: Annotated[int, typer.Option(help="Maximum open connections.")] = 1024
    reload_every: Annotated[
        float, typer.Option(help="Seconds between checks for changed bundles; 0 = never.")
    ] = 0.5
    rehearse: Annotated[bool, typer.Option(help="Try a bundle in a separate process before serving it.")] = (
        True
    )
    require_signature: TrustedKeys = None
    token_file: Annotated[Path | None, typer.Option(help="File with the token that clients must send.")] = (
        None
    )
    tls_cert: Annotated[Path | None, typer.Option(help="TLS certificate chain, PEM.")] = None
    tls_key: Annotated[Path | None, typer.Option(help="Private key of the certificate, PEM.")] = None
    host_name: Annotated[
        list[str] | None,
        typer.Option(help="Host name that a proxy uses for this server; may be repeated."),
    ] = None
    log_requests: Annotated[
        bool, typer.Option("--log-requests", help="Log one line per request to stderr.")
    ] = False
    monitor: Annotated[
        Path | None,
        typer.Option(help="Notice a changed line; states are kept in this folder (docs/guides/operate.md)."),
    ] = None
    false_alarms: Annotated[
        str, typer.Option(help="Most false alarms of the monitor, per model: 1/90d, 1/100000w.")
    ] = DEFAULT
    as_json: Annotated[bool, typer.Option("--json", help="Print the URL and models as JSON.")] = False

    def settings(self) -> Settings:
        """The server's settings."""
        return Settings(
            host=self.host,
            port=self.port,
            threads=self.threads,
            parallel=self.parallel,
            precision=self.precision,
            max_batch=self.max_batch,
            batch_wait=self.batch_wait / 1e3,
            queue=self.queue,
            timeout=self.timeout,
            grace=self.grace,
            max_body=self.max_body,
            max_bodies=max(self.max_body, Settings.max_bodies),
            max_steps=self.max_steps,
            max_windows=self.max_windows,
            connections=self.connections,
            reload_every=self.reload_every,
            rehearse=self.rehearse,
            trusted_keys=tuple(self.require_signature or ()),
            token_file=self.token_file,
            tls_cert=self.tls_cert,
            tls_key=self.tls_key,
            host_names=tuple(self.host_name or ()),
            log_requests=self.log_requests,
            monitor=self.monitor,
            false_alarms=self.false_alarms,
        )


def serve(request: ServeRequest) -> None:
    """Serve bundles over HTTP (Open Inference Protocol v2) until Ctrl-C or SIGTERM.

    Example: edgesparse serve pump.edgesparse valve:2=valve_new.edgesparse --port 8000

    Example: edgesparse serve pump.edgesparse --host 0.0.0.0 --token-file t --tls-cert c.pem --tls-key k.pem

    Example: edgesparse serve pump.edgesparse --require-signature factory.pub.pem
    """
    require("serve", "serve", "starlette", "uvicorn", "httptools", "prometheus_client")
    if request.require_signature:
        require("serve --require-signature", "sign", "cryptography")
    from edgesparse_runtime.serving.server import serve as run_server

    def on_ready(url: str, registry: Registry) -> None:
        _print(url, registry, as_json=request.as_json)
        # Whoever reads a pipe waits for this to know that the server is up.
        sys.stdout.flush()

    run_server(parse_addresses(request.bundles), request.settings(), on_ready)


def _print(url: str, registry: Registry, *, as_json: bool) -> None:
    models = [
        {
            "name": model.address.name,
            "version": model.address.version,
            "bundle_sha256": model.bundle_hash,
            "precision": model.session.precision,
            "engine": model.session.engine,
        }
        for model in registry.models()
    ]
    if as_json:
        print_json("serve", {"url": url, "models": models})
        return
    fields: dict[str, object] = {
        f"{m['name']} {m['version']}": f"{url}/v2/models/{m['name']}/versions/{m['version']} "
        f"({m['precision']}, {m['engine']})"
        for m in models
    }
    print_fields(fields | {"page": f"{url}/docs"})
