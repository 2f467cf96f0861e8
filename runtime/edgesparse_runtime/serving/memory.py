"""Memory of models that were replaced goes back to the system."""

from __future__ import annotations

import ctypes
import gc

# glibc's number for the parameter that bounds its arenas.
_M_ARENA_MAX = -8


def bound_arenas() -> None:
    """Let glibc keep two arenas; with one a thread, each holds on to the peak of its thread."""
    try:
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 2)
    except (OSError, AttributeError, TypeError):  # another C library, or Windows
        return


def give_back() -> None:
    """Hand freed pages back. glibc keeps them otherwise, and a server that reloads often seems to grow."""
    gc.collect()
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError, TypeError):  # another C library, or Windows
        return
    trim(0)
