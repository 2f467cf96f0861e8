"""What sensors in order can give: rules of one channel, and how channels move together."""

from __future__ import annotations
