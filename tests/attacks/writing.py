"""What every verb that writes ends in, repeated until it is killed.

python -m tests.attacks.writing VERB FOLDER
"""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import sys
from collections.abc import Callable
from pathlib import Path

from edgesparse_runtime.bundle.output_file import write_output
from edgesparse_runtime.bundle.read import all_files, open_bundle
from edgesparse_runtime.bundle.write import rewrite_bundle, write_bundle
from edgesparse_runtime.cli.app import run
from edgesparse_runtime.errors import BundleError

# In a folder: two bundles `0` and `1`, each as a folder and as an archive, keys, and what is written.
TARGET = "target.edgesparse"


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
    write_output(folder / TARGET, f"{turn}" * 300_000)


# `quantize`, `breakeven` and dense twins rewrite; `export` and the drop-in write; `run -o`, `deploy -o` and
# reports are outputs.
VERBS: dict[str, Callable[[Path, int], None]] = {
    "pack": _pack,
    "unpack": _unpack,
    "sign": _sign,
    "rewrite": _rewrite,
    "write": _write,
    "output": _output,
}


def state(folder: Path, verb: str) -> object:
    """What a reader finds, whole; but when it was written."""
    target = folder / TARGET
    if verb == "output":
        return target.read_text()
    files = whole(target)
    manifest = json.loads(files["manifest.json"])
    return {**files, "manifest.json": {name: value for name, value in manifest.items() if name != "created"}}


def whole(target: Path) -> dict[str, bytes]:
    """The files of one bundle; one that is replaced after it was opened is opened anew."""
    while True:
        bundle = open_bundle(target)
        with contextlib.suppress(BundleError):
            return all_files(bundle)


def main() -> None:
    """Writes until the process is killed; a bundle that another writer replaced meanwhile is no error."""
    verb, folder = sys.argv[1], Path(sys.argv[2])
    for turn in itertools.cycle((0, 1)):
        try:
            VERBS[verb](folder, turn)
        except BundleError as error:
            print(error, flush=True)
        print("written", flush=True)


if __name__ == "__main__":
    main()
