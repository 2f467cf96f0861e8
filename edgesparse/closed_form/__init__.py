"""The skip's linear map, fitted in closed form."""

from __future__ import annotations
