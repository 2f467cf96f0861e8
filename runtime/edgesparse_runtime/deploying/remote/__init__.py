"""Profiling and verifying on another machine over ssh."""

from __future__ import annotations
