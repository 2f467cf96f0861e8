"""No text that a user may read speaks the project's old dialect.

`banned_words_left.txt` lists what is still to be rewritten, a file and a count per line. It may only shrink:
a new one fails, and so does a count that is no longer true.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from edgesparse_runtime.cli.app import app
from tests.support.paths import ROOT
from tests.support.user_text import banned_words, find_banned, user_texts

HOUSE = Path(__file__).parent
PAGE = HOUSE / "banned_words.txt"
LEFT = HOUSE / "banned_words_left.txt"


def test_no_text_holds_a_banned_word() -> None:
    found = find_banned(ROOT, PAGE)
    counts = Counter(entry.split(":")[0] for entry in found)
    left = dict(line.rsplit(" ", 1) for line in LEFT.read_text().splitlines() if line[:1] not in ("", "#"))
    more = [entry for entry in found if counts[entry.split(":")[0]] > int(left.get(entry.split(":")[0], 0))]
    assert not more, "banned words (" + PAGE.name + "):\n" + "\n".join(more)
    gone = [f"{path} {n}, now {counts[path]}" for path, n in left.items() if counts[path] < int(n)]
    assert not gone, f"fewer than {LEFT.name} lists; correct it:\n" + "\n".join(gone)


def test_no_help_page_holds_a_banned_word() -> None:
    help_pages = []

    def visit(command: object, words: tuple[str, ...]) -> None:
        result = CliRunner().invoke(app, [*words, "--help"], env={"COLUMNS": "400", "TERM": "dumb"})
        assert result.exit_code == 0, words
        help_pages.append((" ".join(words), " ".join(result.stdout.split())))
        for name, child in getattr(command, "commands", {}).items():
            visit(child, (*words, name))

    visit(typer.main.get_command(app), ())
    assert len(help_pages) > 15
    found = [
        f"{verb} --help: {match.group()} -> {instead}"
        for verb, text in help_pages
        for pattern, instead in banned_words(PAGE)
        for match in pattern.finditer(text)
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("text", "is_banned"),
    [
        ("Measured in turns.", True),
        ("Steps to\nforetell.", True),
        ("A line a request on stderr.", True),
        ("One line per request on stderr.", False),
        ("Replicas at least.", True),
        ("at least 3 replicas", False),
        ("a process of its own", False),
        ("Normalise the colour", True),
        ("blocks a query block attends to", False),
    ],
)
def test_patterns_find_the_dialect_and_nothing_else(text: str, is_banned: bool) -> None:
    assert any(pattern.search(text) for pattern, _ in banned_words(PAGE)) == is_banned


def test_literals_inside_f_strings_and_docstrings_are_read() -> None:
    texts = [text for text in user_texts(ROOT) if text.path == "runtime/edgesparse_runtime/errors.py"]
    assert any("{}" in text.text for text in texts)
    assert any(text.line == 1 for text in texts)
