"""Which modules a module really imports: found in the source, without running it.

`import_closure` counts imports that run when the module is imported, and those of the modules it imports, in
turn. What a function imports when it is called is not: a default training run does not reach it.
`version_behind` counts those too, over all our packages.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = tuple(
    ROOT / part
    for part in ("benchmarks", "edgesparse", "export/edgesparse_export", "runtime/edgesparse_runtime")
)


def import_closure(file: Path, *packages: Path, when_called: bool = False) -> set[Path]:
    """Files of `packages` that importing `file` runs, transitively; `file` itself only when it lies there.

    A package's own `__init__.py` is left out: it is a table of contents, and computes nothing.

    Args:
        when_called: also what functions import when they are called.
    """
    found: set[Path] = set()
    waiting = [file]
    while waiting:
        for name in _imported(ast.parse(waiting.pop().read_text(encoding="utf-8")), when_called):
            for part in filter(None, (_file_of(name, package) for package in packages)):
                if part not in found:
                    found.add(part)
                    waiting.append(part)
    return found


def version_behind(*modules: str) -> str:
    """Hash of all Python code of ours that files such as `benchmarks/proofs/target.py` may run."""
    files = {ROOT / module for module in modules}
    for file in tuple(files):
        files |= import_closure(file, *PACKAGES, when_called=True)
    return hash_code(files)


def hash_code(files: Iterable[Path]) -> str:
    """Changes with what the files compute, and where they lie; not with comments and layout."""
    digest = hashlib.sha256()
    for file in sorted(files):
        digest.update(f"{file.relative_to(ROOT)}\n{source_text(file)}\n".encode())
    return digest.hexdigest()[:12]


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


def _imported(tree: ast.AST, when_called: bool) -> Iterator[str]:
    """Full names that may be modules; in function bodies only with `when_called`."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are absolute"
            yield str(node.module)
            # `from package import module` names a module too.
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif when_called or not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            yield from _imported(node, when_called)


def _file_of(name: str, package: Path) -> Path | None:
    head, *rest = name.split(".")
    if head != package.name or not rest:
        return None
    path = package.joinpath(*rest)
    if (path / "__init__.py").exists():
        return path / "__init__.py"
    file = path.with_suffix(".py")
    return file if file.exists() else None
