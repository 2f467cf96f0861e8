"""Text of a file, a bundle or a client as plain characters in somebody else's output."""

from __future__ import annotations

# What a spreadsheet takes for the beginning of a formula.
_FORMULA = ("=", "+", "-", "@")


def printable(text: str) -> str:
    """`text` with everything that does not print escaped as in Python.

    Control characters, escape sequences of terminals, line separators, marks that change the direction of
    writing and halves of surrogate pairs become visible, and the result can be written in UTF-8.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def csv_cell(text: str) -> str:
    """`text` as a cell that no spreadsheet takes for a formula; numbers stay as they are."""
    plain = printable(text)
    if not plain.startswith(_FORMULA):
        return plain
    try:
        float(plain)
    except ValueError:
        return "'" + plain
    return plain
