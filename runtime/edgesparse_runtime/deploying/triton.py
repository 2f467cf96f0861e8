"""A Triton model repository of a bundle: model, configuration, custom-operator library.

Triton's onnxruntime backend runs `model.onnx` itself. With the operator library named in its configuration
the native kernels run; without it (`--no-library`) Triton runs the function body that the file carries.
Triton opens the model with its own onnxruntime, so what `Session` checks is checked here, when the repository
is written.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from edgesparse_runtime.atomic import put_in_place, staging_folder
from edgesparse_runtime.bundle import Bundle
from edgesparse_runtime.deploying.names import plain_name
from edgesparse_runtime.errors import InputError, LibraryError
from edgesparse_runtime.library import LIBRARY_NAME, get_library_path
from edgesparse_runtime.session import Session


def write_triton_repository(
    bundle: Bundle,
    repository: Path,
    *,
    version: int = 1,
    precision: str = "auto",
    library: bool = True,
    seen_at: str | None = None,
    max_batch: int = 8,
    batch_wait_ms: float = 1.0,
    instances: int = 1,
    threads: int = 1,
) -> Path:
    """Add the bundle to a model repository; an existing version of the model is replaced whole.

    Args:
        version: folder of this model version.
        precision: "float32", "int8" or "auto".
        library: bring the operator library of this platform along.
        seen_at: the repository's path where Triton runs; None = the same as here. Triton hands the library's
            path to the loader as it stands, so it must be absolute.
        max_batch, batch_wait_ms: of Triton's dynamic batcher; 1 where answers depend on what shares a run.
        instances, threads: model instances, and onnxruntime threads of each.

    Returns:
        The model's folder.

    Raises:
        InputError: a bound is not positive.
        LibraryError: no library is installed for this platform.
    """
    for name, value in (("version", version), ("max_batch", max_batch), ("instances", instances)):
        if value < 1:
            raise InputError(f"`{name}` must be at least 1; got {value}.")
    session = Session(bundle, precision=precision, threads=1)
    kernels = get_library_path() if library and session.is_sparse else None
    if library and session.is_sparse and kernels is None:
        raise LibraryError(
            f"{LIBRARY_NAME} must be installed to go along; it is not. "
            "Use --no-library for the function body."
        )
    model = repository / plain_name(bundle)
    with staging_folder(model) as staging:
        new = staging / model.name
        if model.exists():
            shutil.copytree(model, new, ignore=shutil.ignore_patterns(str(version)))
        (new / str(version)).mkdir(parents=True)
        content = bundle.read(bundle.model_file(session.precision))
        (new / str(version) / "model.onnx").write_bytes(content)
        seen = f"{(seen_at or str(repository.resolve())).rstrip('/')}/{model.name}/{LIBRARY_NAME}"
        if kernels is not None:
            shutil.copyfile(kernels, new / LIBRARY_NAME)
        # Dynamic int8 sets its scale over a whole batch: answers must not depend on who else asks.
        rows = 1 if session.precision == "int8" else max_batch
        config = make_config(
            bundle, session, seen if kernels else None, rows, batch_wait_ms, instances, threads
        )
        (new / "config.pbtxt").write_text(config, encoding="utf-8")
        if bundle.classes:
            (new / "labels.txt").write_text("\n".join(bundle.classes) + "\n", encoding="utf-8")
        put_in_place(new, model)
    return model


def make_config(
    bundle: Bundle,
    session: Session,
    library: str | None,
    max_batch: int,
    batch_wait_ms: float,
    instances: int,
    threads: int,
) -> str:
    """`config.pbtxt`, in protobuf's text form.

    The model's batch dimension is Triton's: with `max_batch_size` above 0 it is left out of `dims`. The time
    dimension is -1; Triton batches requests of equal shape only, as no ragged batching is asked for.
    """
    name = plain_name(bundle)
    channels = session.channel_count if isinstance(session.channel_count, int) else -1
    outputs = len(bundle.classes) or -1
    label = ' label_filename: "labels.txt"' if bundle.classes else ""
    lines = [
        f'name: "{name}"',
        'platform: "onnxruntime_onnx"',
        f"max_batch_size: {max_batch}",
        f'input [ {{ name: "window" data_type: TYPE_FP32 dims: [ {channels}, -1 ] }} ]',
        f'output [ {{ name: "scores" data_type: TYPE_FP32 dims: [ {outputs} ]{label} }} ]',
        f"instance_group [ {{ kind: KIND_CPU count: {instances} }} ]",
    ]
    if max_batch > 1:
        lines.append(f"dynamic_batching {{ max_queue_delay_microseconds: {round(1000 * batch_wait_ms)} }}")
    for key, value in (
        ("intra_op_thread_count", threads),
        ("inter_op_thread_count", 1),
        ("session.intra_op.allow_spinning", 0),
    ):
        lines.append(f'parameters {{ key: "{key}" value: {{ string_value: "{value}" }} }}')
    if library:
        lines.append(f'model_operations {{ op_library_filename: [ "{library}" ] }}')
    return "\n".join(lines) + "\n"
