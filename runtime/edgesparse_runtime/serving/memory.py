"""Memory of models that were replaced goes back to the system."""

from __future__ import annotations

import ctypes
import gc


def give_back() -> None:
    """Hand freed pages back. glibc keeps them otherwise, and a server that reloads often seems to grow."""
    gc.collect()
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError, TypeError):  # another C library, or Windows
        return
    trim(0)
