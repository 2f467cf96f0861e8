"""Profile results as tables, SVG charts and one HTML page."""

from __future__ import annotations
