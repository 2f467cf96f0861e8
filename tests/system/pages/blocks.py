"""The blocks of a page of documentation, and the `edgesparse` commands in them.

A command is a line that begins with `edgesparse` or `$ edgesparse`, or has it after a pipe; a line that ends
in a backslash continues, and words from ` #` on are a comment. A block that cannot run where tests run is
preceded by a line `<!-- not run: REASON -->`.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from tests.support.paths import ROOT

DOCS = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md"))
PAGES = ["README.md", "CONTRIBUTING.md", "SECURITY.md", *DOCS]
TUTORIALS = [page for page in DOCS if page.startswith("docs/tutorials/")]
BLOCK = re.compile(r"(?:<!-- not run: (.*?) -->\n+)?^```([\w-]*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"^(?:\$ )?(?:[^|#]*\| *)?(edgesparse .*)$")
# A shell's own signs; what follows is another command's.
ENDS = {"|", ">", "<", "&&", ";"}


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        language: the word after the fence; "" where there is none.
        not_run: why it cannot run, else "".
    """

    page: str
    line: int
    language: str
    text: str
    not_run: str

    @property
    def name(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def commands(self) -> list[list[str]]:
        """Arguments of each `edgesparse` command, without the word itself."""
        lines = self.text.replace("\\\n", " ").splitlines()
        found = [match[1] for match in map(COMMAND.match, lines) if match]
        return [_words(command)[1:] for command in found]


def read_blocks(page: str) -> list[Block]:
    """Every block of a page; `page` is a path from the root of the repository."""
    text = Path(ROOT / page).read_text(encoding="utf-8")
    return [
        Block(page, text.count("\n", 0, match.start(3)), match[2], match[3], match[1] or "")
        for match in BLOCK.finditer(text)
    ]


def _words(command: str) -> list[str]:
    parts = shlex.shlex(command, posix=True, punctuation_chars="|<>&;")
    parts.whitespace_split = True
    parts.commenters = "#"
    words: list[str] = []
    for part in parts:
        if part in ENDS:
            break
        words.append(part)
    return words
