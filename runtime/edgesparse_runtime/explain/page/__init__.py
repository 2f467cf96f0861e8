"""An explanation as one HTML page that needs nothing but itself: no script, no font, no other file."""

from __future__ import annotations
