"""Verbs that run a model: run, serve, deploy, wheelhouse."""

from __future__ import annotations
