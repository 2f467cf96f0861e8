"""Text of other people on a page: no markup, and nothing that does not print or turns what follows around."""

from __future__ import annotations

from html import escape

from edgesparse_runtime.data.escape import escape_terminal


def page_text(text: object) -> str:
    """`text` as content or an attribute of HTML and SVG; half a surrogate pair comes out as an escape."""
    return escape(escape_terminal(text))
