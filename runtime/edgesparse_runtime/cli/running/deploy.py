"""`edgesparse deploy`: a bundle onto an engine that scales past one machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgesparse_runtime.bundle.atomic import replace_text
from edgesparse_runtime.bundle.read import Bundle, open_bundle
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
    "replicas": ("ray", "kserve"),
    "max_replicas": ("ray", "kserve"),
    "port": ("ray",),
}


def deploy(
    context: typer.Context,
    target: Annotated[str, typer.Argument(help=f"One of {', '.join(TARGETS)}.", show_default=False)],
    bundle: Annotated[Path, typer.Argument(help="Bundle to deploy.", show_default=False)],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Triton's model repository; file of container, kserve. [stdout]"),
    ] = None,
    precision: Annotated[str, typer.Option(help="triton, ray, container: auto, float32 or int8.")] = "auto",
    threads: Annotated[
        int | None, typer.Option(help="triton, ray, container: threads of one model run. [1]")
    ] = None,
    max_batch: Annotated[
        int | None, typer.Option(help="triton, container: windows that share a run. [8]")
    ] = None,
    version: Annotated[int, typer.Option(help="triton: version of the model.")] = 1,
    library: Annotated[bool, typer.Option(help="triton: bring the operator library along.")] = True,
    seen_at: Annotated[
        str | None,
        typer.Option(help="triton: the repository's path where Triton runs. [as before, at first as here]"),
    ] = None,
    image: Annotated[str | None, typer.Option(help="kserve: image that serves the bundle.")] = None,
    replicas: Annotated[int | None, typer.Option(help="Replicas at least. [ray 2, kserve 1]")] = None,
    max_replicas: Annotated[
        int | None, typer.Option(help="Replicas at most. [ray as --replicas, kserve 4]")
    ] = None,
    port: Annotated[int, typer.Option(help="ray: port on loopback.")] = 8000,
    require_signature: Annotated[
        list[Path] | None,
        typer.Option(help="Public key (PEM) that must have signed the bundle; may be repeated."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Write what Triton, a container or KServe needs, or start a Ray Serve application.

    Example: edgesparse deploy triton pump.edgesparse -o models --seen-at /models

    Example: edgesparse deploy ray pump.edgesparse --replicas 2 --max-replicas 8

    Example: edgesparse deploy container pump.edgesparse -o Containerfile

    Example: edgesparse deploy kserve pump.edgesparse --image registry.example/pump:1 -o pump.yaml
    """
    if target not in TARGETS:
        raise InputError(f"`deploy` must be given one of {', '.join(TARGETS)}; got {target}.")
    _check_options(context, target)
    if target == "triton" and out is None:
        raise InputError("`deploy triton` must be given the model repository. Use -o REPO.")
    if target == "kserve" and image is None:
        raise InputError("`deploy kserve` must be given the image that serves the bundle. Use --image IMAGE.")
    for name, value in (("--threads", threads), ("--max-batch", max_batch)):
        if value is not None and value < 1:
            raise InputError(f"`{name}` must be at least 1; got {value}.")
    if out is not None:
        (check_folder if target == "triton" else check_file)(out)
    opened = open_bundle(bundle, trusted_keys=require_signature or ())
    if precision != "auto":
        opened.model_file(precision)
    if target == "triton":
        assert out is not None
        written = write_triton_repository(
            opened,
            out,
            version=version,
            precision=precision,
            library=library,
            seen_at=seen_at,
            max_batch=max_batch,
            threads=threads,
        )
        if max_batch is not None and written.config.max_batch != max_batch:
            note("Windows run one by one: an int8 version's answers depend on what shares a run.")
        _tell_triton(written, version, as_json)
    elif target == "ray":
        keys = tuple(str(key.resolve()) for key in require_signature or ())
        most = max_replicas if max_replicas is not None else replicas or 2
        least = min(2, most) if replicas is None else replicas
        _run_on_ray(opened, precision, threads or 1, least, most, port, keys, as_json)
    elif target == "container":
        options = ["--precision", precision] if precision != "auto" else []
        options += ["--threads", str(threads)] if threads is not None else []
        options += ["--max-batch", str(max_batch)] if max_batch is not None else []
        _write(
            make_containerfile(opened, options=options, trusted_keys=require_signature or ()),
            out,
            target,
            as_json,
        )
    else:
        assert image is not None
        least = 1 if replicas is None else replicas
        most = max(4, least) if max_replicas is None else max_replicas
        _check_replicas(least, most)
        text = make_kserve(opened, image, min_replicas=least, max_replicas=most)
        _write(text, out, target, as_json)


def _check_options(context: typer.Context, target: str) -> None:
    """An option that the target has no use for is refused, not ignored."""
    for name, targets in _USED_BY.items():
        source = context.get_parameter_source(name)
        if target not in targets and source is not None and source.name != "DEFAULT":
            option = "--no-library" if name == "library" else f"--{name.replace('_', '-')}"
            raise InputError(
                f"`{option}` must be left out of `deploy {target}`; it is for {', '.join(targets)}."
            )


def _check_replicas(least: int, most: int) -> None:
    if not 1 <= least <= most:
        raise InputError(f"`replicas` must be 1 to `max_replicas`; got {least} and {most}.")


def _tell_triton(written: TritonModel, version: int, as_json: bool) -> None:
    if written.replaced is not None:
        was = "the same model" if written.replaced == "same" else "another model"
        note(f"Version {version} of {written.folder.name} was replaced; it was {was}.")
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


def _write(text: str, out: Path | None, target: str, as_json: bool) -> None:
    if out is not None:
        replace_text(out, text)
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
    _check_replicas(replicas, max_replicas)
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
