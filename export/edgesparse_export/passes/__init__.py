"""Graph rewrites, each with the rules it follows."""

from __future__ import annotations
