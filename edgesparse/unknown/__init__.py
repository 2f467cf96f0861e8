"""How unlike all training windows a window is: a score for "none of these"."""

from __future__ import annotations
