"""What a forked child may not do: end the threads of its parent's models.

A child has none of its parent's threads. onnxruntime's destructor joins them, and so a child that ends, or
frees a model, would wait forever (onnxruntime issue 31961). Models that were open at the fork are therefore
never freed in the child; they still predict there, on the calling thread.
"""

from __future__ import annotations

import ctypes
import os
import weakref

import onnxruntime

_open: weakref.WeakSet[onnxruntime.InferenceSession] = weakref.WeakSet()


def survive_fork(session: onnxruntime.InferenceSession) -> onnxruntime.InferenceSession:
    """Keep `session` from being freed in forked children."""
    _open.add(session)
    return session


def _keep_open() -> None:
    """In a new child: one reference more, which nobody ever gives back, also not at the interpreter's end."""
    for session in tuple(_open):
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(session))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_keep_open)
