"""Which modules a module really imports: found in the source, without running it.

Counted are imports that run when the module is imported, and those of the modules it imports, in turn. What a
function imports when it is called is not: a default training run does not reach it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path


def import_closure(file: Path, *packages: Path) -> set[Path]:
    """Files of `packages` that importing `file` runs, transitively; `file` itself only when it lies there.

    A package's own `__init__.py` is left out: it is a table of contents, and computes nothing.
    """
    found: set[Path] = set()
    waiting = [file]
    while waiting:
        for name in _imported(ast.parse(waiting.pop().read_text(encoding="utf-8"))):
            for package in packages:
                part = _file_of(name, package)
                if part is not None and part not in found:
                    found.add(part)
                    waiting.append(part)
    return found


def source_text(file: Path) -> str:
    """What a file computes: its syntax without comments, docstrings and layout."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if (
            isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef))
            and ast.get_docstring(node) is not None
        ):
            del node.body[0]
    return ast.dump(tree)


def _imported(tree: ast.AST) -> Iterator[str]:
    """Full names that may be modules, in everything but function bodies."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are absolute"
            yield str(node.module)
            # `from package import module` names a module too.
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            yield from _imported(node)


def _file_of(name: str, package: Path) -> Path | None:
    head, *rest = name.split(".")
    if head != package.name or not rest:
        return None
    path = package.joinpath(*rest)
    if (path / "__init__.py").exists():
        return path / "__init__.py"
    file = path.with_suffix(".py")
    return file if file.exists() else None
