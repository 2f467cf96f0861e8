"""Which size of model a data set needs: measured on its training series."""

from __future__ import annotations
