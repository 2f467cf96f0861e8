"""The bundle on disk: reading, writing, manifest, signature."""

from __future__ import annotations
