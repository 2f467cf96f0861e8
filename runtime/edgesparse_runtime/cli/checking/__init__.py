"""Verbs that tell what a model or machine can do: evaluate, verify, inspect, profile, compare, doctor, ..."""

from __future__ import annotations
