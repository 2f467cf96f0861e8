"""`edgesparse poc`: a ladder of models on one data set, everything measured, resumable."""

from __future__ import annotations
