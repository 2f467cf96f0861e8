"""What mkdocs does to a page before it renders it (`hooks` in mkdocs.yml).

1. A link to a file of the repository outside docs/ becomes its path as code: the site is complete by itself.
2. `<!-- every example -->` becomes the scripts of examples/ with the tables that they print.
3. `<!-- every verb -->` becomes the command line's help.
4. For screen readers the search is given a name, and a column without a header has none.
5. There is no page for addresses that a server does not know: the theme's is not readable by all.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

from typer.main import get_command

from edgesparse_runtime.cli.app import VERBS, app

ROOT = Path(__file__).resolve().parents[2]
# The theme's search has no name.
SEARCH = 'data-md-component="search" role="dialog"'
LINK = re.compile(r"\[([^\]]+)\]\(([^)#\s]+)(#[^)\s]*)?\)")


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Called by mkdocs once per page."""
    folder = (ROOT / "docs" / page.file.src_uri).parent
    markdown = LINK.sub(lambda match: _without_outside(match, folder), markdown)
    for mark, make in {"<!-- every example -->": _examples, "<!-- every verb -->": _verbs}.items():
        if mark in markdown:
            markdown = markdown.replace(mark, make())
    return markdown


def on_post_page(output: str, **_: Any) -> str:
    """Called by mkdocs once per page, with its HTML."""
    output = output.replace("<th></th>", "<td></td>")
    return output.replace(SEARCH, f'{SEARCH} aria-label="Search"')


def on_post_build(config: Any, **_: Any) -> None:
    """Called by mkdocs once, at the end."""
    (Path(config.site_dir) / "404.html").unlink(missing_ok=True)


def _without_outside(match: re.Match[str], folder: Path) -> str:
    target = (folder / match[2]).resolve()
    if "://" in match[2] or not target.exists() or target.is_relative_to(ROOT / "docs"):
        return match[0]
    return f"`{target.relative_to(ROOT).as_posix()}`"


def _examples() -> str:
    return "\n".join(map(_example, sorted((ROOT / "examples").glob("*.py"))))


def _example(script: Path) -> str:
    """A heading, what it is about, what it printed, and the script without its docstring."""
    text = script.read_text(encoding="utf-8")
    title, _, rest = (ast.get_docstring(ast.parse(text)) or script.stem).partition("\n")
    name = f"examples/{script.name}"
    return "\n".join(
        [
            f"## {title.rstrip('.')}",
            f"\n{rest.strip()}\n",
            f"`python {name}` prints",
            f'\n```text\n--8<-- "examples/expected/{script.stem}.txt"\n```\n',
            f'??? example "{name}"\n',
            f'    ```python\n    --8<-- "{name}"\n    ```\n',
        ]
    )


def _verbs() -> str:
    commands: dict[str, Any] = get_command(app).commands  # type: ignore[attr-defined]
    return "\n".join(_verb(name, commands[name]) for name in VERBS)


def _verb(name: str, command: Any) -> str:
    """A heading, and the help as the terminal shows it."""
    context = command.make_context(
        f"edgesparse {name}", [], resilient_parsing=True, terminal_width=100, max_content_width=100
    )
    return f"## {name}\n\n```text\n{command.get_help(context).rstrip()}\n```\n"
