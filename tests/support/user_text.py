"""Every text that a user may read: pages, resources, help, and the string literals of the packages."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.layout import PACKAGES, tracked_files

PAGES = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "Makefile", "docs/", "examples/")
PAGE_SUFFIXES = (".md", ".py", ".mk", "Makefile")
SHIPPED = ("edgesparse", "edgesparse_export", "edgesparse_runtime")
RESOURCE_SUFFIXES = (".html", ".css", ".json", ".yaml", ".yml", ".txt", ".tmpl", ".template")


@dataclass(frozen=True)
class Text:
    """A piece of text and where it is: path from the root, and the line it begins on."""

    path: str
    line: int
    text: str


def user_texts(root: Path) -> Iterator[Text]:
    """Pages and resources whole; of Python files of the packages each literal and docstring.

    Parts of an f-string are joined, with `{}` for a value.
    """
    shipped = tuple(PACKAGES[name] + "/" for name in SHIPPED)
    for path in tracked_files(root):
        if path.startswith(PAGES) and path.endswith(PAGE_SUFFIXES):
            yield Text(path, 1, (root / path).read_text(encoding="utf-8"))
        elif path.startswith(shipped) and path.endswith(".py"):
            tree = ast.parse((root / path).read_text(encoding="utf-8"))
            yield from (Text(path, line, text) for line, text in _literals(tree))
        elif path.startswith(shipped) and path.endswith(RESOURCE_SUFFIXES):
            yield Text(path, 1, (root / path).read_text(encoding="utf-8"))


def _literals(tree: ast.AST) -> Iterator[tuple[int, str]]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.JoinedStr):
            parts = [str(p.value) if isinstance(p, ast.Constant) else "{}" for p in node.values]
            yield node.lineno, "".join(parts)
            for part in node.values:
                if isinstance(part, ast.FormattedValue):
                    yield from _literals(part)
        elif isinstance(node, ast.Constant):
            if isinstance(node.value, str):
                yield node.lineno, node.value
        else:
            yield from _literals(node)


def banned_words(page: Path) -> list[tuple[re.Pattern[str], str]]:
    """Each pattern of a list of `PATTERN -> INSTEAD` lines, and what to write instead."""
    found = []
    for line in page.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            pattern, instead = line.rsplit(" -> ", 1)
            found.append((re.compile(pattern.replace(" ", r"\s+"), re.IGNORECASE | re.MULTILINE), instead))
    return found


def find_banned(root: Path, page: Path) -> list[str]:
    """`PATH:LINE: WORD -> INSTEAD` for each banned word in a text that a user may read."""
    patterns = banned_words(page)
    found = []
    for text in user_texts(root):
        for pattern, instead in patterns:
            for match in pattern.finditer(text.text):
                line = text.line + text.text.count("\n", 0, match.start())
                word = " ".join(match.group().split())
                found.append(f"{text.path}:{line}: {word} -> {instead}")
    return sorted(found)
