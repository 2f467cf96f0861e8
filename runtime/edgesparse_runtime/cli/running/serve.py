"""`edgesparse serve`: bundles behind the Open Inference Protocol."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgesparse_runtime.cli.output import print_fields, print_json
from edgesparse_runtime.cli.require import require
from edgesparse_runtime.serving.addresses import parse_addresses
from edgesparse_runtime.serving.settings import Settings

if TYPE_CHECKING:
    from edgesparse_runtime.serving.registry import Registry


def serve(
    bundles: Annotated[
        list[str], typer.Argument(help="Bundles, each [NAME[:VERSION]=]PATH.", show_default=False)
    ],
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 = any free one.")] = 8000,
    precision: Annotated[str, typer.Option(help="auto, float32 or int8.")] = "auto",
    threads: Annotated[int, typer.Option(help="Threads of one model run.")] = 1,
    parallel: Annotated[
        int | None, typer.Option(help="Model runs at a time. [usable cores / threads]")
    ] = None,
    max_batch: Annotated[int, typer.Option(help="Windows of equal length that share a run.")] = 8,
    batch_wait: Annotated[float, typer.Option(help="Milliseconds a window waits for others.")] = 1.0,
    queue: Annotated[int, typer.Option(help="Requests in the house at most; the next gets 429.")] = 256,
    timeout: Annotated[float, typer.Option(help="Seconds from a request's head to its answer.")] = 10.0,
    grace: Annotated[float, typer.Option(help="Seconds a shutdown waits for what was taken in.")] = 30.0,
    max_body: Annotated[int, typer.Option(help="Bytes of one request.")] = 16 << 20,
    max_steps: Annotated[int, typer.Option(help="Longest window.")] = 65_536,
    max_windows: Annotated[int, typer.Option(help="Windows of one request.")] = 64,
    connections: Annotated[int, typer.Option(help="Connections at a time.")] = 1024,
    reload_every: Annotated[
        float, typer.Option(help="Seconds between looks for new bundles; 0 = never.")
    ] = 0.5,
    rehearse: Annotated[
        bool, typer.Option(help="Try a bundle in a process of its own before serving it.")
    ] = True,
    require_signature: Annotated[
        list[Path] | None,
        typer.Option(help="Public key (PEM) that must have signed each bundle; may be repeated."),
    ] = None,
    token_file: Annotated[Path | None, typer.Option(help="Token that clients must send.")] = None,
    tls_cert: Annotated[Path | None, typer.Option(help="Certificate chain, PEM.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Its key, PEM.")] = None,
    host_name: Annotated[
        list[str] | None, typer.Option(help="Name by which a proxy calls this server; repeatable.")
    ] = None,
    log_requests: Annotated[bool, typer.Option("--log-requests", help="A line a request on stderr.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Say on stdout as JSON where it listens.")] = False,
) -> None:
    """Serve bundles over HTTP (Open Inference Protocol v2) until Ctrl-C or SIGTERM.

    Example: edgesparse serve pump.edgesparse valve:2=valve_new.edgesparse --port 8000

    Example: edgesparse serve pump.edgesparse --host 0.0.0.0 --token-file t --tls-cert c.pem --tls-key k.pem

    Example: edgesparse serve pump.edgesparse --require-signature factory.pub.pem
    """
    require("serve", "serve", "starlette", "uvicorn", "httptools", "prometheus_client")
    if require_signature:
        require("serve --require-signature", "sign", "cryptography")
    from edgesparse_runtime.serving.server import serve as run_server

    settings = Settings(
        host=host,
        port=port,
        threads=threads,
        parallel=parallel,
        precision=precision,
        max_batch=max_batch,
        batch_wait=batch_wait / 1e3,
        queue=queue,
        timeout=timeout,
        grace=grace,
        max_body=max_body,
        max_bodies=max(max_body, Settings.max_bodies),
        max_steps=max_steps,
        max_windows=max_windows,
        connections=connections,
        reload_every=reload_every,
        rehearse=rehearse,
        trusted_keys=tuple(require_signature or ()),
        token_file=token_file,
        tls_cert=tls_cert,
        tls_key=tls_key,
        host_names=tuple(host_name or ()),
        log_requests=log_requests,
    )

    def on_ready(url: str, registry: Registry) -> None:
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
        else:
            fields: dict[str, object] = {
                f"{m['name']} {m['version']}": f"{url}/v2/models/{m['name']}/versions/{m['version']} "
                f"({m['precision']}, {m['engine']})"
                for m in models
            }
            print_fields(fields | {"page": f"{url}/docs"})
        # Whoever reads a pipe waits for this to know that the server is up.
        sys.stdout.flush()

    run_server(parse_addresses(bundles), settings, on_ready)
