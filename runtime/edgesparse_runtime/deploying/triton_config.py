"""`config.pbtxt` of a Triton model: written from a bundle, and read back from what was written before."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from edgesparse_runtime.bundle.read import Bundle
from edgesparse_runtime.data.escape import quote_pbtxt, unquote_pbtxt
from edgesparse_runtime.errors import InputError
from edgesparse_runtime.session import Session

FILE_NAME = "config.pbtxt"
LABELS_NAME = "labels.txt"
_LIBRARY = re.compile(r'^model_operations \{ op_library_filename: \[ (".*") \] \}$', re.MULTILINE)


@dataclass(frozen=True)
class ModelConfig:
    """What all versions of a model share.

    Attributes:
        input, output: as they are in the file, one line each.
        labels: class names.
        max_batch: Triton's `max_batch_size`.
        threads: onnxruntime's, of each instance.
        library: path of the operator library where Triton runs; None = none is named.
    """

    input: str
    output: str
    labels: tuple[str, ...]
    max_batch: int
    threads: int
    library: str | None


def label_lines(labels: tuple[str, ...]) -> str:
    """`labels.txt`: a label per line, so that line i is the name of score i.

    Raises:
        InputError: a label is not one line.
    """
    for label in labels:
        if not label.isprintable():
            raise InputError(f"A class must be one line of printable text for Triton; got {label!r}.")
    return "\n".join(labels) + "\n"


def describe(
    bundle: Bundle, session: Session, *, max_batch: int, threads: int, library: str | None
) -> ModelConfig:
    """The configuration of a bundle alone.

    The model's batch dimension is Triton's: with `max_batch_size` above 0 it is left out of `dims`. The time
    dimension is -1; Triton batches requests of equal shape only, as ragged batching is not enabled.
    """
    channels = session.channel_count if isinstance(session.channel_count, int) else -1
    label = f' label_filename: "{LABELS_NAME}"' if bundle.classes else ""
    return ModelConfig(
        f'input [ {{ name: "window" data_type: TYPE_FP32 dims: [ {channels}, -1 ] }} ]',
        f'output [ {{ name: "scores" data_type: TYPE_FP32 dims: [ {len(bundle.classes) or -1} ]{label} }} ]',
        bundle.classes,
        max_batch,
        threads,
        library,
    )


def read_config(model: Path) -> ModelConfig | None:
    """The configuration that is in a model's folder; None where there is none.

    Raises:
        InputError: it is not one of ours.
    """
    path = model / FILE_NAME
    if not path.exists():
        return None
    text = path.read_text(encoding="utf-8", errors="replace")

    def line(pattern: str) -> str:
        found = re.search(rf"^(?:{pattern})$", text, re.MULTILINE)
        if found is None:
            raise InputError(
                f"{path} must be what `edgesparse deploy triton` wrote; it is not. Use another repository."
            )
        return found[found.lastindex or 0]

    library = _LIBRARY.search(text)
    labels = model / LABELS_NAME
    return ModelConfig(
        line(r"input \[.*\]"),
        line(r"output \[.*\]"),
        tuple(labels.read_text(encoding="utf-8").splitlines()) if labels.exists() else (),
        int(line(r"max_batch_size: (\d+)")),
        int(
            line(r'parameters \{ key: "intra_op_thread_count" value: \{ string_value: "(\d+)" \} \}'),
        ),
        None if library is None else unquote_pbtxt(library[1]),
    )


def write_config(name: str, config: ModelConfig, batch_wait_ms: float, instances: int) -> str:
    """`config.pbtxt`, in protobuf's text form. Every version in the repository is served."""
    lines = [
        f"name: {quote_pbtxt(name)}",
        'platform: "onnxruntime_onnx"',
        "version_policy { all { } }",
        f"max_batch_size: {config.max_batch}",
        config.input,
        config.output,
        f"instance_group [ {{ kind: KIND_CPU count: {instances} }} ]",
    ]
    if config.max_batch > 1:
        lines.append(f"dynamic_batching {{ max_queue_delay_microseconds: {round(1000 * batch_wait_ms)} }}")
    for key, value in (
        ("intra_op_thread_count", config.threads),
        ("inter_op_thread_count", 1),
        ("session.intra_op.allow_spinning", 0),
    ):
        lines.append(f'parameters {{ key: "{key}" value: {{ string_value: "{value}" }} }}')
    if config.library:
        lines.append(f"model_operations {{ op_library_filename: [ {quote_pbtxt(config.library)} ] }}")
    return "\n".join(lines) + "\n"
