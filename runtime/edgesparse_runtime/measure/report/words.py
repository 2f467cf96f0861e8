"""Sentences and labels of a page in several languages."""

from __future__ import annotations

from collections.abc import Mapping

LANGUAGES = ("en", "ja")


class Words:
    """Sentences with gaps, each in English and Japanese."""

    def __init__(self, pairs: Mapping[str, tuple[str, str]]) -> None:
        self._pairs = pairs

    def text(self, key: str, language: str, **values: object) -> str:
        """A sentence or a label."""
        return self._pairs[key][LANGUAGES.index(language)].format(**values)

    def all_texts(self, language: str) -> list[str]:
        """Every sentence and label, with its gaps."""
        return [pair[LANGUAGES.index(language)] for pair in self._pairs.values()]
