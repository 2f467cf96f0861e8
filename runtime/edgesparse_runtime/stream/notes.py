"""`Notes`: what a person should know of a stream, on one line each, and not without end."""

from __future__ import annotations

from collections.abc import Callable

from edgesparse_runtime.data.escape import escape_terminal

MOST_NOTES = 50
LONGEST_NOTE = 500


class Notes:
    """Passes on the first notes; what a source can cause as often as it likes must not fill a log.

    Args:
        note: told each line.
    """

    def __init__(self, note: Callable[[str], None]) -> None:
        self._note = note
        self._count = 0

    def __call__(self, text: str) -> None:
        self._count += 1
        if self._count <= MOST_NOTES:
            self._note(escape_terminal(text[:LONGEST_NOTE]))
        if self._count == MOST_NOTES:
            self._note("further notes are not shown; the summary has the counts")
