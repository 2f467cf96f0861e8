"""What every verb that writes ends in, repeated until it is killed.

    python -m tests.attacks.writing

For each line `VERB FOLDER` on standard input a fork begins to write; its process id and what it prints go to
standard output. For each line `ends PID` its end is awaited. Nothing is imported per writer.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from edgesparse_export.quantize.recipe import Int8Recipe, write_recipe
from edgesparse_runtime.bundle.atomic import replace_bytes
from edgesparse_runtime.bundle.output_file import write_output
from edgesparse_runtime.bundle.read import all_files, open_bundle
from edgesparse_runtime.bundle.write import rewrite_bundle, write_bundle
from edgesparse_runtime.cli.app import run
from edgesparse_runtime.data.readers.write import write_csv
from edgesparse_runtime.data.series_set import SeriesSet
from edgesparse_runtime.deploying.triton import write_triton_repository
from edgesparse_runtime.errors import BundleError

# In a folder: two bundles `0` and `1`, each as a folder and as an archive, keys, series, and what is written.
TARGET = "target.edgesparse"
SERIES = "series.csv"
REPOSITORY, OUTPUT = "repository", "output"


def _run(*words: object) -> None:
    with contextlib.redirect_stdout(io.StringIO()):
        code = run([str(word) for word in words])
    if code:
        raise BundleError(f"exit code {code}")


def _pack(folder: Path, turn: int) -> None:
    _run("pack", folder / f"{turn}.edgesparse", "-o", folder / TARGET, "--overwrite")


def _unpack(folder: Path, turn: int) -> None:
    _run("unpack", folder / f"{turn}.packed.edgesparse", "-o", folder / TARGET, "--overwrite")


def _sign(folder: Path, turn: int) -> None:
    _run("sign", folder / TARGET, "--key", folder / f"{turn}.pem", "--overwrite")


def _rewrite(folder: Path, turn: int) -> None:
    rewrite_bundle(open_bundle(folder / TARGET), {"card.md": b"rewritten %d" % turn}, {})


def _write(folder: Path, turn: int) -> None:
    bundle = open_bundle(folder / f"{turn}.edgesparse")
    files = {name: content for name, content in all_files(bundle).items() if name != "manifest.json"}
    fields = {name: value for name, value in bundle.manifest.items() if name != "files"}
    write_bundle(folder / TARGET, files, fields)


def _output(folder: Path, turn: int) -> None:
    write_output(folder / OUTPUT, f"{turn}" * 300_000)


def _run_csv(folder: Path, turn: int) -> None:
    form = ("csv", "json")[turn]
    _run("run", folder / "0.edgesparse", folder / SERIES, "--format", form, "-o", folder / OUTPUT)


def _container(folder: Path, turn: int) -> None:
    options = ["--threads", turn + 1, "-o", folder / OUTPUT]
    _run("deploy", "container", folder / "0.edgesparse", *options)


def _kserve(folder: Path, turn: int) -> None:
    options = ["--image", f"registry/image:{turn}", "-o", folder / OUTPUT]
    _run("deploy", "kserve", folder / "0.edgesparse", *options)


def _recipe(folder: Path, turn: int) -> None:
    write_recipe(folder / OUTPUT, Int8Recipe(per_channel=bool(turn)), [])


def _profile(folder: Path, turn: int) -> None:
    """What `profile -o` and `compare -o` end in; `turn` in place of what is measured."""
    write_output(folder / OUTPUT, json.dumps({"schema": "x", "profile": [turn] * 10_000}, indent=2))


def _checkpoint(folder: Path, turn: int) -> None:
    replace_bytes(folder / OUTPUT, b"%d" % turn * 300_000)


def _csv_of_series(folder: Path, turn: int) -> None:
    write_csv(folder / OUTPUT, SeriesSet([np.full((1, 500), turn, np.float32)] * 4, ("x",)))


def _triton(folder: Path, turn: int) -> None:
    bundle = open_bundle(folder / "0.edgesparse")
    repository = folder / REPOSITORY
    write_triton_repository(bundle, repository, threads=turn + 1, library=False, precision="float32")


# `quantize`, `breakeven` and dense twins rewrite; `export` and the drop-in write.
VERBS: dict[str, Callable[[Path, int], None]] = {
    "pack": _pack,
    "unpack": _unpack,
    "sign": _sign,
    "rewrite": _rewrite,
    "write": _write,
    "triton": _triton,
    "output": _output,
    "run": _run_csv,
    "container": _container,
    "kserve": _kserve,
    "recipe": _recipe,
    "profile": _profile,
    "checkpoint": _checkpoint,
    "series": _csv_of_series,
}
BUNDLES = ("pack", "unpack", "sign", "rewrite", "write")
# These begin without a target.
NEW = tuple(verb for verb in VERBS if verb not in BUNDLES or verb == "pack")


def state(folder: Path, verb: str) -> object:
    """What a reader finds, whole; but when it was written."""
    if verb == "triton":
        return _files_of_model(folder / REPOSITORY)
    if verb not in BUNDLES:
        return (folder / OUTPUT).read_bytes()
    files = whole(folder / TARGET)
    manifest = json.loads(files["manifest.json"])
    return {**files, "manifest.json": {name: value for name, value in manifest.items() if name != "created"}}


def whole(target: Path) -> dict[str, bytes]:
    """The files of one bundle; one that is replaced after it was opened is opened anew."""
    while True:
        bundle = open_bundle(target)
        with contextlib.suppress(BundleError):
            return all_files(bundle)


def _files_of_model(repository: Path) -> dict[str, bytes]:
    """The files of a repository's one model; when it is replaced meanwhile, those of the next."""
    (model,) = (path for path in repository.iterdir() if not path.name.startswith("."))
    while True:
        before = model.stat()
        with contextlib.suppress(FileNotFoundError):
            found = {str(p.relative_to(model)): p.read_bytes() for p in model.rglob("*") if p.is_file()}
            if os.path.samestat(before, model.stat()):
                return found


def _write_until_killed(verb: str, folder: Path) -> None:
    """Prints the process id after the first write. A bundle that another writer replaced is no error."""
    for count in itertools.count():
        with contextlib.suppress(BundleError):
            VERBS[verb](folder, count % 2)
        if count == 0:
            print(os.getpid(), flush=True)


def main() -> None:
    """Forks a writer per line, and awaits ends."""
    for line in sys.stdin:
        verb, _, rest = line.rstrip("\n").partition(" ")
        if verb == "ends":
            print(os.waitstatus_to_exitcode(os.waitpid(int(rest), 0)[1]), flush=True)
        elif os.fork() == 0:
            try:
                _write_until_killed(verb, Path(rest))
            except BaseException as error:
                print(f"{type(error).__name__}: {error}", flush=True)
            os._exit(1)


if __name__ == "__main__":
    main()
