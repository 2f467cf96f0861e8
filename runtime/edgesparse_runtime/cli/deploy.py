"""`edgesparse deploy`: a bundle onto an engine that scales past one machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgesparse_runtime.bundle import Bundle, open_bundle
from edgesparse_runtime.cli.output import note, print_fields, print_json
from edgesparse_runtime.cli.require import require
from edgesparse_runtime.deploying.container import make_containerfile, make_kserve
from edgesparse_runtime.deploying.names import cluster_name, plain_name
from edgesparse_runtime.deploying.triton import write_triton_repository
from edgesparse_runtime.errors import InputError

TARGETS = ("triton", "ray", "container", "kserve")


def deploy(
    target: Annotated[str, typer.Argument(help=f"One of {', '.join(TARGETS)}.", show_default=False)],
    bundle: Annotated[Path, typer.Argument(help="Bundle to deploy.", show_default=False)],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Triton's model repository; file of container, kserve. [stdout]"),
    ] = None,
    precision: Annotated[str, typer.Option(help="auto, float32 or int8.")] = "auto",
    threads: Annotated[int, typer.Option(help="Threads of one model run.")] = 1,
    max_batch: Annotated[int, typer.Option(help="triton: windows that share a run.")] = 8,
    version: Annotated[int, typer.Option(help="triton: version of the model.")] = 1,
    library: Annotated[bool, typer.Option(help="triton: bring the operator library along.")] = True,
    seen_at: Annotated[
        str | None, typer.Option(help="triton: the repository's path where Triton runs. [as here]")
    ] = None,
    image: Annotated[str | None, typer.Option(help="kserve: image that serves the bundle.")] = None,
    replicas: Annotated[int, typer.Option(help="ray: model replicas at least.")] = 2,
    max_replicas: Annotated[int | None, typer.Option(help="ray: at most. [as --replicas]")] = None,
    port: Annotated[int, typer.Option(help="ray: port on loopback.")] = 8000,
    require_signature: Annotated[
        list[Path] | None,
        typer.Option(help="Public key (PEM) that must have signed the bundle; may be repeated."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Write what Triton, a container or KServe needs, or start a Ray Serve application.

    Example: edgesparse deploy triton pump.edgesparse -o models --seen-at /models
    """
    if target not in TARGETS:
        raise InputError(f"`deploy` must be given one of {', '.join(TARGETS)}; got {target}.")
    opened = open_bundle(bundle, trusted_keys=require_signature or ())
    if target == "triton":
        if out is None:
            raise InputError("`deploy triton` must be given the model repository. Use -o REPO.")
        model = write_triton_repository(
            opened,
            out,
            version=version,
            precision=precision,
            library=library,
            seen_at=seen_at,
            max_batch=max_batch,
            threads=threads,
        )
        fields: dict[str, object] = {"model": str(model), "version": version}
        if as_json:
            print_json("deploy", {"target": target, **fields})
        else:
            start = f"tritonserver --model-repository={seen_at or out.resolve()}"
            print_fields(fields | {"next": start})
    elif target == "ray":
        keys = tuple(str(key.resolve()) for key in require_signature or ())
        _run_on_ray(opened, precision, threads, replicas, max_replicas or replicas, port, keys, as_json)
    else:
        text = (
            make_containerfile(opened)
            if target == "container"
            else make_kserve(opened, _image(image, opened))
        )
        _write(text, out, target, as_json)


def _image(image: str | None, bundle: Bundle) -> str:
    return image or f"registry.example/{cluster_name(bundle)}:latest"


def _write(text: str, out: Path | None, target: str, as_json: bool) -> None:
    if out is not None:
        staging = out.with_name(f".{out.name}.new")
        try:
            staging.write_text(text, encoding="utf-8")
            staging.replace(out)
        finally:
            staging.unlink(missing_ok=True)
    if as_json:
        print_json("deploy", {"target": target, "file": None if out is None else str(out), "text": text})
    elif out is None:
        print(text, end="")
    else:
        print_fields({"file": str(out)})


def _run_on_ray(
    bundle: Bundle,
    precision: str,
    threads: int,
    replicas: int,
    max_replicas: int,
    port: int,
    keys: tuple[str, ...],
    as_json: bool,
) -> None:
    require("deploy ray", "ray", "ray", "starlette")
    if not 1 <= replicas <= max_replicas:
        raise InputError(f"`replicas` must be 1 to `max_replicas`; got {replicas} and {max_replicas}.")
    from edgesparse_runtime.deploying.ray_serve import make_application, run_application

    name = plain_name(bundle)
    application = make_application(
        str(bundle.path),
        name=name,
        precision=precision,
        threads=threads,
        min_replicas=replicas,
        max_replicas=max_replicas,
        trusted_keys=keys,
    )

    def on_ready() -> None:
        url = f"http://127.0.0.1:{port}/v2/models/{name}"
        if as_json:
            print_json("deploy", {"target": "ray", "url": url, "replicas": replicas})
        else:
            print_fields({"model": url, "replicas": f"{replicas} to {max_replicas}"})
        note("Ctrl-C ends it.")

    run_application(application, port, on_ready)
