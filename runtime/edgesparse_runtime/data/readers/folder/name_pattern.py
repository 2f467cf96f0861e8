"""Label and group in the names of files and folders: `{label}/{group}_*`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath

from edgesparse_runtime.errors import InputError

FIELDS = ("label", "group")
_PIECE = re.compile(r"\{(\w+)\}|\*|[^{}*]+|[{}]")


@dataclass(frozen=True)
class NamePattern:
    """What `--label-from` states.

    Attributes:
        text: as it was stated.
        pattern: of a name without its ending; fields are groups.
        is_path: it spans folders; otherwise the file's own name is matched.
    """

    text: str
    pattern: re.Pattern[str]
    is_path: bool

    @classmethod
    def parse(cls, text: str) -> NamePattern:
        """Read `{label}/{group}_*`, or a regular expression with groups of these names.

        `{label}` and `{group}` stand for as few characters as fit, `*` for any; none of them for a slash.

        Raises:
            InputError: no field, another field, or one that stands twice.
        """
        is_expression = "(?P<" in text
        try:
            pattern = re.compile(text if is_expression else _to_expression(text))
        except re.error as error:
            raise InputError(
                f"`--label-from` must be a pattern such as {{label}}/{{group}}_*; {error}."
            ) from None
        fields = set(pattern.groupindex)
        if not fields & set(FIELDS) or fields - set(FIELDS):
            got = ", ".join(sorted(fields)) or "none"
            raise InputError(f"`--label-from` {text} must hold {{label}} or {{group}}; got {got}.")
        return cls(text, pattern, "/" in text)

    def match(self, name: str) -> dict[str, str] | None:
        """The fields of a recording's name; None = it does not fit."""
        whole = name if self.is_path else PurePosixPath(name).name
        stem = whole[: len(whole) - len(PurePosixPath(whole).suffix)]
        found = self.pattern.fullmatch(stem) or self.pattern.fullmatch(whole)
        return None if found is None else {key: value.strip() for key, value in found.groupdict("").items()}


def _to_expression(text: str) -> str:
    parts = []
    for piece in _PIECE.finditer(text):
        if piece[1]:
            parts.append(f"(?P<{piece[1]}>[^/]+?)")
        else:
            parts.append("[^/]*" if piece[0] == "*" else re.escape(piece[0]))
    return "".join(parts)
