"""The domain of our operators and its version."""

from __future__ import annotations

DOMAIN = "edgesparse"
VERSION = 1
