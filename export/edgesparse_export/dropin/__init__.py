"""Export of existing models whose attention was made sparse."""

from __future__ import annotations
