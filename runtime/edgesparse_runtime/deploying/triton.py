"""A Triton model repository of a bundle: model, configuration, custom-operator library.

Triton's onnxruntime backend runs `model.onnx` itself. With the operator library named in its configuration
the native kernels run; without it (`--no-library`) Triton runs the function body that the file carries.
Triton opens the model with its own onnxruntime, so what `Session` checks is checked here, when the repository
is written.

All versions of a model share one configuration: a further one must have the inputs and outputs of the others,
and earlier choices (where Triton sees the repository, batch, threads) stay unless they are made anew.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from edgesparse_runtime.bundle.atomic import only_writer, put_in_place, staging_folder, write_durably
from edgesparse_runtime.bundle.read import Bundle
from edgesparse_runtime.deploying.destination import check_folder
from edgesparse_runtime.deploying.names import plain_name
from edgesparse_runtime.deploying.triton_config import (
    FILE_NAME,
    LABELS_NAME,
    ModelConfig,
    describe,
    label_lines,
    read_config,
    write_config,
)
from edgesparse_runtime.engine import LIBRARY_NAME, get_library_path
from edgesparse_runtime.errors import InputError, LibraryError
from edgesparse_runtime.session import Session

_MAX_BATCH = 8
MODEL_NAME = "model.onnx"


@dataclass(frozen=True)
class TritonModel:
    """A model of a repository, as it was written.

    Attributes:
        folder: the model's.
        versions: that are in it now, lowest first; all are served.
        replaced: what this version was before: "same" model, "other" model, or None = it is new.
        seen_at: the repository's path where Triton runs.
        config: shared by all versions.
    """

    folder: Path
    versions: tuple[int, ...]
    replaced: str | None
    seen_at: str
    config: ModelConfig


def write_triton_repository(
    bundle: Bundle,
    repository: Path,
    *,
    version: int = 1,
    precision: str = "auto",
    library: bool = True,
    seen_at: str | None = None,
    max_batch: int | None = None,
    batch_wait_ms: float = 1.0,
    instances: int = 1,
    threads: int | None = None,
) -> TritonModel:
    """Add the bundle to a model repository; an existing version of the model is replaced whole.

    Args:
        version: folder of this model version.
        precision: "float32", "int8" or "auto".
        library: include the operator library of this platform.
        seen_at: the repository's path where Triton runs; None = as before, at first the same as here. Triton
            hands the library's path to the loader as it stands, so it must be absolute.
        max_batch: of Triton's dynamic batcher; None = as before, at first 8. Always 1 where a version's
            answers depend on what shares a run.
        batch_wait_ms: how long the batcher waits.
        instances: of the model.
        threads: onnxruntime threads of each instance; None = as before, at first 1.

    Raises:
        InputError: a bound is not positive, the repository is no folder outside bundles, `seen_at` is not
            absolute, or another version has other inputs or outputs.
        LibraryError: no library is installed for this platform.
    """
    _check_positive(version=version, max_batch=max_batch, instances=instances, threads=threads)
    model = repository / plain_name(bundle)
    check_folder(repository)
    check_folder(model)
    _check_seen_at(seen_at)
    session = Session(bundle, precision=precision, threads=1)
    kernels = _find_library() if library and session.engine != "onnxruntime" else None
    repository.mkdir(parents=True, exist_ok=True)
    # What is kept of the other versions is read and written as one: nobody else adds one meanwhile.
    with only_writer(model):
        others = [v for v in _versions(model) if v != version]
        before = read_config(model) if others else None
        replaced = _compare_version(model / str(version), session.read_model())
        if seen_at is None:
            seen_at = _seen_before(model) or str(repository.resolve())
        # The root alone becomes "", which the library's path is put after.
        seen_at = seen_at.rstrip("/")
        # Dynamic int8 sets its scale over a whole batch: answers must not depend on who else asks.
        rows = 1 if session.precision == "int8" else max_batch or (before.max_batch if before else _MAX_BATCH)
        threads = threads or (before.threads if before else 1)
        seen_library = f"{seen_at}/{model.name}/{LIBRARY_NAME}" if kernels else None
        config = describe(bundle, session, max_batch=rows, threads=threads, library=seen_library)
        if others:
            config = _beside(config, before, others, model, seen_at, wants_library=library)
        files = {FILE_NAME: write_config(model.name, config, batch_wait_ms, instances).encode()}
        files |= _labels_and_library(config, kernels)
        _replace_version(model, version, session.read_model(), files)
    return TritonModel(model, tuple(sorted([*others, version])), replaced, seen_at or "/", config)


def _labels_and_library(config: ModelConfig, kernels: str | None) -> dict[str, bytes]:
    files = {LABELS_NAME: label_lines(config.labels).encode()} if config.labels else {}
    return files if kernels is None else {**files, LIBRARY_NAME: Path(kernels).read_bytes()}


def _check_positive(**bounds: int | None) -> None:
    for name, value in bounds.items():
        if value is not None and value < 1:
            raise InputError(f"`{name}` must be at least 1; got {value}.")


def _find_library() -> str:
    kernels = get_library_path()
    if kernels is None:
        raise LibraryError(
            f"{LIBRARY_NAME} must be installed to be included; it is not. "
            "Use --no-library for the function body."
        )
    return kernels


def _compare_version(folder: Path, content: bytes) -> str | None:
    """What a version that is there holds: the "same" model, an "other", or None = it is new."""
    if not folder.exists():
        return None
    old = folder / MODEL_NAME
    return "same" if old.is_file() and old.read_bytes() == content else "other"


def _replace_version(model: Path, version: int, content: bytes, files: dict[str, bytes]) -> None:
    """Put the model's folder in place with one version replaced and the others as they were."""
    replaced = {str(version), FILE_NAME, LABELS_NAME, *files}
    with staging_folder(model) as staging:
        new = staging / model.name
        if model.exists():
            # Links stay links: what they lead to is not copied into the repository.
            ignored = shutil.ignore_patterns(*replaced)
            shutil.copytree(model, new, symlinks=True, ignore=ignored)
        (new / str(version)).mkdir(parents=True)
        write_durably(new / str(version) / MODEL_NAME, content)
        for name, text in files.items():
            write_durably(new / name, text)
        put_in_place(new, model)


def _beside(
    config: ModelConfig,
    before: ModelConfig | None,
    others: list[int],
    model: Path,
    seen_at: str,
    *,
    wants_library: bool,
) -> ModelConfig:
    """The configuration that serves the new version and the others.

    Raises:
        InputError: there is none.
    """
    versions = f"version {', '.join(map(str, others))} of {model.name}"
    if before is None:
        raise InputError(f"{model} must hold {FILE_NAME} beside {versions}. Use another repository.")
    for what, was, now in (
        ("input", before.input, config.input),
        ("output", before.output, config.output),
        ("classes", ", ".join(before.labels), ", ".join(config.labels)),
    ):
        if was != now:
            raise InputError(
                f"The {what} must be as in {versions} ({was[:160]}); got {now[:160]}. "
                "Give the bundle another file name, or use another repository."
            )
    if before.library and not wants_library:
        raise InputError(f"`--no-library` must be left out: {versions} runs with the library; it is shared.")
    if before.max_batch == 1:
        # One of the others may be a dynamic int8 model.
        config = replace(config, max_batch=1)
    if before.library and not config.library:
        config = replace(config, library=f"{seen_at}/{model.name}/{LIBRARY_NAME}")
    return config


def _versions(model: Path) -> list[int]:
    if not model.is_dir():
        return []
    return sorted(int(p.name) for p in model.iterdir() if p.is_dir() and p.name.isdecimal() and int(p.name))


def _seen_before(model: Path) -> str | None:
    """Where Triton sees the repository, by the library's path in an earlier configuration."""
    try:
        config = read_config(model)
    except InputError:
        return None
    end = f"/{model.name}/{LIBRARY_NAME}"
    if config is None or config.library is None or not config.library.endswith(end):
        return None
    return config.library.removesuffix(end)


def _check_seen_at(seen_at: str | None) -> None:
    if seen_at is not None and not (PurePosixPath(seen_at).is_absolute() and seen_at.isprintable()):
        raise InputError(
            f"`--seen-at` must be an absolute path, as Triton sees the repository; got {seen_at!r}."
        )
