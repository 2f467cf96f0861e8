"""`edgesparse deploy`: a bundle onto Triton, Ray Serve, a container or KServe."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from edgesparse_runtime.bundle.output_file import write_output
from edgesparse_runtime.bundle.read import Bundle, open_bundle
from edgesparse_runtime.cli.options import BundleArgument, Request, TrustedKeys
from edgesparse_runtime.cli.output import note, print_fields, print_json
from edgesparse_runtime.cli.require import require
from edgesparse_runtime.deploying.container import make_containerfile
from edgesparse_runtime.deploying.destination import check_file, check_folder
from edgesparse_runtime.deploying.kserve import make_kserve
from edgesparse_runtime.deploying.names import plain_name
from edgesparse_runtime.deploying.triton import TritonModel, write_triton_repository
from edgesparse_runtime.errors import InputError

TARGETS = ("triton", "ray", "container", "kserve")
# Options that only some targets have a use for; the others apply to all.
_USED_BY: dict[str, tuple[str, ...]] = {
    "out": ("triton", "container", "kserve"),
    "precision": ("triton", "ray", "container"),
    "threads": ("triton", "ray", "container"),
    "max_batch": ("triton", "container"),
    "version": ("triton",),
    "library": ("triton",),
    "seen_at": ("triton",),
    "image": ("kserve",),
    "canary": ("kserve",),
    "replicas": ("ray", "kserve"),
    "max_replicas": ("ray", "kserve"),
    "port": ("ray",),
}


@dataclass(frozen=True, kw_only=True)
class DeployRequest(Request):
    """Arguments and options of `edgesparse deploy`."""

    context: typer.Context
    target: Annotated[str, typer.Argument(help=f"One of {', '.join(TARGETS)}.", show_default=False)]
    bundle: BundleArgument
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="triton: model repository; container, kserve: file. [stdout]"),
    ] = None
    precision: Annotated[str, typer.Option(help="triton, ray, container: auto, float32 or int8.")] = "auto"
    threads: Annotated[
        int | None, typer.Option(help="triton, ray, container: threads per model run. [1]")
    ] = None
    max_batch: Annotated[
        int | None, typer.Option(help="triton, container: maximum windows per model run. [8]")
    ] = None
    version: Annotated[int, typer.Option(help="triton: version of the model.")] = 1
    library: Annotated[bool, typer.Option(help="triton: include the operator library.")] = True
    seen_at: Annotated[
        str | None,
        typer.Option(
            help="triton: the repository's path where Triton runs. [the path used last time, else --out]"
        ),
    ] = None
    image: Annotated[str | None, typer.Option(help="kserve: image that serves the bundle.")] = None
    canary: Annotated[
        int | None,
        typer.Option(
            help="kserve: percent of the traffic for this bundle, the rest for the one before. [all]"
        ),
    ] = None
    replicas: Annotated[int | None, typer.Option(help="Minimum number of replicas. [ray 2, kserve 1]")] = None
    max_replicas: Annotated[
        int | None, typer.Option(help="Maximum number of replicas. [ray: --replicas, kserve: 4]")
    ] = None
    port: Annotated[int, typer.Option(help="ray: port on loopback.")] = 8000
    require_signature: TrustedKeys = None


def deploy(request: DeployRequest) -> None:
    """Write what Triton, a container or KServe needs, or start a Ray Serve application.

    Example: edgesparse deploy triton pump.edgesparse -o models --seen-at /models

    Example: edgesparse deploy ray pump.edgesparse --replicas 2 --max-replicas 8

    Example: edgesparse deploy container pump.edgesparse -o Containerfile

    Example: edgesparse deploy kserve pump.edgesparse --image registry.example/pump:1 -o pump.yaml
    """
    target, out = request.target, request.out
    if target not in TARGETS:
        raise InputError(f"`deploy` must be given one of {', '.join(TARGETS)}; got {target}.")
    _check_options(request)
    if target == "triton" and out is None:
        raise InputError("`deploy triton` needs a model repository. Use -o REPO.")
    if target == "kserve" and request.image is None:
        raise InputError("`deploy kserve` needs the image that serves the bundle. Use --image IMAGE.")
    for name, value in (("--threads", request.threads), ("--max-batch", request.max_batch)):
        if value is not None and value < 1:
            raise InputError(f"`{name}` must be at least 1; got {value}.")
    if out is not None:
        (check_folder if target == "triton" else check_file)(out)
    opened = open_bundle(request.bundle, trusted_keys=request.require_signature or ())
    if request.precision != "auto":
        opened.model_file(request.precision)
    if target == "triton":
        _write_triton(opened, request)
    elif target == "ray":
        _run_on_ray(opened, request)
    elif target == "container":
        _write_container(opened, request)
    else:
        _write_kserve(opened, request)


def _check_options(request: DeployRequest) -> None:
    """Refuse, and not ignore, an option that the target has no use for."""
    target = request.target
    for name, targets in _USED_BY.items():
        source = request.context.get_parameter_source(name)
        if target not in targets and source is not None and source.name != "DEFAULT":
            option = "--no-library" if name == "library" else f"--{name.replace('_', '-')}"
            raise InputError(
                f"`{option}` has no effect on `deploy {target}`; use it with {', '.join(targets)}."
            )


def _check_replicas(least: int, most: int) -> None:
    if not 1 <= least <= most:
        raise InputError(f"`replicas` must be 1 to `max_replicas`; got {least} and {most}.")


def _write_triton(opened: Bundle, request: DeployRequest) -> None:
    assert request.out is not None
    written = write_triton_repository(
        opened,
        request.out,
        version=request.version,
        precision=request.precision,
        library=request.library,
        seen_at=request.seen_at,
        max_batch=request.max_batch,
        threads=request.threads,
    )
    if request.max_batch is not None and written.config.max_batch != request.max_batch:
        note("Windows run one by one: an int8 version's outputs depend on what shares a run.")
    _print_triton(written, request.version, request.as_json)


def _print_triton(written: TritonModel, version: int, as_json: bool) -> None:
    if written.replaced is not None:
        was = "the same model" if written.replaced == "same" else "another model"
        note(f"Version {version} of {written.folder.name} was replaced; it held {was}.")
    fields: dict[str, object] = {
        "model": str(written.folder),
        "version": version,
        "max_batch": written.config.max_batch,
        "library": written.config.library,
    }
    if as_json:
        facts = {"replaced": written.replaced, "versions": list(written.versions)}
        print_json("deploy", {"target": "triton", **fields, **facts})
    else:
        served = {"served": ", ".join(map(str, written.versions))}
        start = {"next": f"tritonserver --model-repository={written.seen_at}"}
        print_fields(fields | {"library": written.config.library or "none"} | served | start)


def _write_container(opened: Bundle, request: DeployRequest) -> None:
    options = ["--precision", request.precision] if request.precision != "auto" else []
    options += ["--threads", str(request.threads)] if request.threads is not None else []
    options += ["--max-batch", str(request.max_batch)] if request.max_batch is not None else []
    keys = request.require_signature or ()
    _write(make_containerfile(opened, options=options, trusted_keys=keys), request)


def _write_kserve(opened: Bundle, request: DeployRequest) -> None:
    assert request.image is not None
    least = 1 if request.replicas is None else request.replicas
    most = max(4, least) if request.max_replicas is None else request.max_replicas
    _check_replicas(least, most)
    made = make_kserve(opened, request.image, min_replicas=least, max_replicas=most, canary=request.canary)
    _write(made, request)


def _write(text: str, request: DeployRequest) -> None:
    target, out = request.target, request.out
    if out is not None:
        write_output(out, text)
    if request.as_json:
        print_json("deploy", {"target": target, "file": None if out is None else str(out), "text": text})
    elif out is None:
        print(text, end="")
    else:
        print_fields({"file": str(out)})


def _run_on_ray(bundle: Bundle, request: DeployRequest) -> None:
    require("deploy ray", "ray", "ray", "starlette")
    most = request.max_replicas if request.max_replicas is not None else request.replicas or 2
    least = min(2, most) if request.replicas is None else request.replicas
    _check_replicas(least, most)
    from edgesparse_runtime.deploying.ray_serve import make_application, run_application

    name = plain_name(bundle)
    application = make_application(
        str(bundle.path),
        name=name,
        precision=request.precision,
        threads=request.threads or 1,
        min_replicas=least,
        max_replicas=most,
        trusted_keys=tuple(str(key.resolve()) for key in request.require_signature or ()),
    )

    def on_ready() -> None:
        url = f"http://127.0.0.1:{request.port}/v2/models/{name}"
        if request.as_json:
            print_json("deploy", {"target": "ray", "url": url, "replicas": least})
        else:
            print_fields({"model": url, "replicas": f"{least} to {most}"})
        note("Ctrl-C stops it.")

    run_application(application, request.port, on_ready)
