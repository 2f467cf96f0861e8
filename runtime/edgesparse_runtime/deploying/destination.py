"""Where `edgesparse deploy` may write: never into a bundle, whose files are all named in its manifest."""

from __future__ import annotations

from pathlib import Path

from edgesparse_runtime.bundle.names import FILE_NAME, GOLDEN, SUFFIX
from edgesparse_runtime.errors import InputError


def check_folder(path: Path) -> None:
    """`path` is a folder or can be made one, outside any bundle.

    Raises:
        InputError: it is not.
    """
    _check_outside_bundles(path)
    nearest = next(p for p in (path, *path.absolute().parents) if p.exists())
    if not nearest.is_dir():
        raise InputError(f"`--out` must be a folder, or a new one; {nearest} is a file.")


def check_file(path: Path) -> None:
    """`path` is a file or can be made one in a folder that exists, outside any bundle.

    Raises:
        InputError: it is not.
    """
    _check_outside_bundles(path)
    if path.is_dir():
        raise InputError(f"`--out` must be a file; {path} is a folder. Name a file in it.")
    if not path.absolute().parent.is_dir():
        raise InputError(f"`--out` must be in a folder that exists; got {path}.")


def _check_outside_bundles(path: Path) -> None:
    real = path.resolve()
    for place in (real, *real.parents):
        if place.exists() and _looks_like_a_bundle(place):
            where = "is" if place == real else "lies in"
            raise InputError(
                f"`--out` must not be a bundle or lie in one; {path} {where} {place.name}. "
                "A file more would break it; write beside it."
            )


def _looks_like_a_bundle(place: Path) -> bool:
    if place.suffix == SUFFIX:
        return True
    return (place / FILE_NAME).is_file() and (place / GOLDEN).is_file()
