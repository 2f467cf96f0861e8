"""Text of other people (bundles, data files, clients) in output that somebody reads or parses."""

from __future__ import annotations
