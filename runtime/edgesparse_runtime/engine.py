"""Finds and loads the native operator library, and reports which engine will run.

The library is optional: a model carries each operator as an ONNX function as well, so without the library
the same file runs, only slower.
"""

from __future__ import annotations

import os
from functools import cache
from importlib import resources
from pathlib import Path
from typing import NamedTuple

import onnxruntime

from edgesparse_runtime.errors import LibraryError
from edgesparse_runtime.model_check.open import first_line, session_options
from edgesparse_runtime.model_check.protobuf_wire import write_field

ENGINE_VARIABLE = "EDGESPARSE_ENGINE"
ISA_VARIABLE = "EDGESPARSE_ISA"
LIBRARY_NAME = "edgesparse_kernels.so"
PLAIN_ISA = "scalar"
# They multiply bytes in one instruction; int8 gains nothing with the others (docs/performance.md).
FASTER_IN_INT8 = ("amx", "avx512vnni", "avxvnni", "neon_dotprod")


class Engine(NamedTuple):
    """What runs `edgesparse::SparseAttention`: a kernel's instruction set, or why none or no better."""

    isa: str | None
    reason: str

    def __str__(self) -> str:
        return f"native ({self.isa})" if self.isa else f"function body ({self.reason})"


def get_library_path() -> str | None:
    """The path of the operator library that was installed with this package, or None."""
    # An editable install has it in site-packages, not beside this file.
    try:
        found = resources.files("edgesparse_runtime").joinpath(LIBRARY_NAME)
    except ModuleNotFoundError:
        return None
    with resources.as_file(found) as path:
        return str(path) if Path(path).is_file() else None


def find_engine(wanted: str = "auto", path: str | None = None) -> Engine:
    """What a session runs.

    Args:
        wanted: "native", "body", or "auto" = as the environment selects, else the faster: the function body
            where the kernels know no instruction set of this processor.
        path: another library than the installed one.

    Raises:
        LibraryError: native is required and the library does not load, or `wanted` is none of these.
    """
    choice = f"engine={wanted}"
    if wanted == "auto":
        wanted = os.environ.get(ENGINE_VARIABLE, "")
        choice = f"{ENGINE_VARIABLE}={wanted}"
    if wanted not in ("", "native", "body"):
        raise LibraryError(f"`{ENGINE_VARIABLE}` must be native or body; got {wanted}. Unset it.")
    if wanted == "body":
        return Engine(None, choice)
    pinned = os.environ.get(ISA_VARIABLE, "")
    library = path or get_library_path()
    if library is None:
        engine = Engine(None, "the operator library is not installed for this platform")
    else:
        engine = Engine(*_probe(library, pinned))
    if wanted == "native" and engine.isa is None:
        raise LibraryError(
            f"`{choice}` must find a library that loads; {engine.reason}. "
            "Leave it out to run the function body."
        )
    if engine.isa == PLAIN_ISA and not wanted and not pinned:
        return Engine(None, "faster than scalar kernels")
    return engine


def register(options: onnxruntime.SessionOptions, path: str | None = None, wanted: str = "auto") -> Engine:
    """Registers the operator library with `options` where `find_engine` finds kernels."""
    engine = find_engine(wanted, path)
    if engine.isa:
        options.register_custom_ops_library(path or get_library_path())
    return engine


def usual_precision(isa: str | None) -> tuple[str, str]:
    """The precision that is faster with these kernels, or without any, and why."""
    if isa in FASTER_IN_INT8:
        return "int8", f"faster with {isa} kernels"
    return "float32", f"no gain from int8 {f'with {isa}' if isa else 'without native'} kernels"


@cache
def _probe(library: str, pinned_isa: str) -> tuple[str | None, str]:
    """The instruction set that the library picks, or None; and why no better.

    Loads the library into a session of its own first: one that fails must not spoil the caller's options.
    """
    del pinned_isa  # part of the cache's key; the library reads the environment itself
    options = session_options(threads=1)
    try:
        options.register_custom_ops_library(library)
        session = onnxruntime.InferenceSession(_info_model(), options, providers=["CPUExecutionProvider"])
        isa, reason = session.run(None, {})[0]
        return str(isa), str(reason)
    except Exception as error:  # onnxruntime raises a class of its own for each status
        return None, first_line(error)


def _info_model() -> bytes:
    """An ONNX file of one `edgesparse::KernelInfo` node, spelled out: the runtime does not need onnx."""
    node = write_field(2, b"isa") + write_field(4, b"KernelInfo") + write_field(7, b"edgesparse")
    string_tensor = write_field(1, write_field(1, 8))
    output = write_field(1, b"isa") + write_field(2, string_tensor)
    graph = write_field(1, node) + write_field(2, b"info") + write_field(12, output)
    opsets = b"".join(
        write_field(8, write_field(1, domain) + write_field(2, version))
        for domain, version in ((b"", 20), (b"edgesparse", 1))
    )
    return write_field(1, 10) + write_field(7, graph) + opsets
