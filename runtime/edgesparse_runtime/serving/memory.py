"""Memory of replaced models is returned to the system."""

from __future__ import annotations

import ctypes
import gc

# glibc's number for the parameter that bounds its arenas.
_M_ARENA_MAX = -8


def bound_arenas() -> None:
    """Limit glibc to two arenas; with one per thread, each keeps the peak of its thread."""
    try:
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 2)
    except (OSError, AttributeError, TypeError):  # another C library, or Windows
        return


def give_back() -> None:
    """Return freed pages. glibc keeps them otherwise, and a server that reloads often appears to grow."""
    gc.collect()
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError, TypeError):  # another C library, or Windows
        return
    trim(0)
