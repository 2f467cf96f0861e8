"""What a model attended to and why, what moved its score, and how far to believe it.

Three things that are kept apart (docs/guides/explain.md): `routing` records what sparse attention computed,
which is not why the model decided; `influence` takes parts of the window away and scores what is left;
`trust` tests that order against random ones.
"""

from __future__ import annotations
