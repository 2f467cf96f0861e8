"""The shape of the repository, read with `ast`: who imports whom, how full, how long, how deep.

Every import counts: at the top, inside a function, and under `if TYPE_CHECKING`. A name imported from
a package is an arrow to the submodule of that name where there is one, and to the package's
`__init__.py` otherwise.

*Circle.* Files that import each other, directly or through others (a strongly connected set of files).
Importing `a.b.c` also runs `a/__init__.py`; this alone is no arrow, or every table of contents would
close a circle.

*Room and arrow back up.* A folder is a room; its entries are its files and its sub-rooms. An arrow runs
back up when a file inside a sub-room imports another entry (file or sub-room) of a room around it, and
that entry in turn imports the sub-room, directly or through other entries of the same room. Entries of a
room that do so depend on each other, although no two files need to.

*Function length.* Lines from `def` to the last line, both included, decorators not. *Nesting.* Levels of
`if`, `for`, `while`, `with`, `try`, `match` and inner functions within a function; a chain of `elif` is
one level, and so are the cases of a `match`.
"""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

PACKAGES = {
    "edgesparse": "edgesparse",
    "edgesparse_export": "export/edgesparse_export",
    "edgesparse_runtime": "runtime/edgesparse_runtime",
    "benchmarks": "benchmarks",
    "tests": "tests",
}
DEFENSE = "One function:"
"""A comment that holds this, directly above `def` or its decorators, defends a function of over 60 lines."""

_LEVELS = (ast.If, ast.For, ast.While, ast.With, ast.Try, ast.TryStar, ast.Match, ast.AsyncFor, ast.AsyncWith)
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True)
class Import:
    """An arrow from one file to another; both are paths from the root, with slashes."""

    source: str
    target: str
    is_deferred: bool
    """Inside a function or under `if TYPE_CHECKING`: not run when the file is imported."""


@dataclass(frozen=True)
class Function:
    path: str
    name: str
    lines: int
    nesting: int
    is_defended: bool

    @property
    def label(self) -> str:
        return f"{self.path}::{self.name}"


@dataclass
class Layout:
    """All that was read; paths are relative to the root."""

    root: Path
    files: list[str] = field(default_factory=list, repr=False)
    imports: list[Import] = field(default_factory=list, repr=False)
    functions: list[Function] = field(default_factory=list, repr=False)

    def circles(self) -> list[list[str]]:
        """Sets of files that import each other, the largest first."""
        arrows: dict[str, set[str]] = {}
        for arrow in self.imports:
            arrows.setdefault(arrow.source, set()).add(arrow.target)
        found = [sorted(group) for group in _strongly_connected(arrows) if len(group) > 1]
        return sorted(found, key=lambda group: (-len(group), group))

    def arrows_back_up(self) -> list[str]:
        """`FILE -> FILE` for each import from inside a sub-room to what in turn needs that sub-room."""
        found = set()
        for folder in PACKAGES.values():
            found |= set(self._back_up_in(folder))
        return sorted(found)

    def _back_up_in(self, package: str) -> Iterator[str]:
        inside = [a for a in self.imports if _is_in(a.source, package) and _is_in(a.target, package)]
        rooms = {package}
        for arrow in inside:
            parents = Path(arrow.source).parents
            rooms |= {p.as_posix() for p in parents if _is_in(p.as_posix(), package)}
        for room in sorted(rooms):
            entries: dict[str, set[str]] = {}
            crossing: list[tuple[str, str, Import]] = []
            for arrow in inside:
                if not (_is_in(arrow.source, room) and _is_in(arrow.target, room)):
                    continue
                source, target = _entry(arrow.source, room), _entry(arrow.target, room)
                if source != target:
                    entries.setdefault(source, set()).add(target)
                    crossing.append((source, target, arrow))
            group_of = {name: i for i, group in enumerate(_strongly_connected(entries)) for name in group}
            for source, target, arrow in crossing:
                is_sub_room = source != arrow.source
                if is_sub_room and group_of[source] == group_of[target]:
                    yield f"{arrow.source} -> {arrow.target}"

    def between(self, source: str, target: str) -> list[Import]:
        """Imports of package `target` by files of package `source`."""
        return [
            a
            for a in self.imports
            if _is_in(a.source, PACKAGES[source]) and _is_in(a.target, PACKAGES[target])
        ]

    def against_the_direction(self) -> list[str]:
        """`edgesparse_export -> edgesparse -> edgesparse_runtime`; verbs may reach up in deferred imports."""
        found = [*self.between("edgesparse", "edgesparse_export")]
        for target in ("edgesparse", "edgesparse_export"):
            for arrow in self.between("edgesparse_runtime", target):
                is_verb = _is_in(arrow.source, PACKAGES["edgesparse_runtime"] + "/cli")
                if not (is_verb and arrow.is_deferred):
                    found.append(arrow)
        for source in ("edgesparse", "edgesparse_export", "edgesparse_runtime"):
            found += self.between(source, "benchmarks") + self.between(source, "tests")
        return sorted({f"{a.source} -> {a.target}" for a in found})

    def tests_and_benchmarks(self) -> list[str]:
        """Imports between tests and benchmarks, other than the two kinds that are meant.

        Benchmarks may use `tests/support`; `tests/benchmarks` may use benchmarks.
        """
        found = [a for a in self.between("benchmarks", "tests") if not _is_in(a.target, "tests/support")]
        found += [a for a in self.between("tests", "benchmarks") if not _is_in(a.source, "tests/benchmarks")]
        return sorted({f"{a.source} -> {a.target}" for a in found})

    def entries_per_folder(self) -> dict[str, int]:
        """Files and folders directly in each folder of tracked files; `benchmarks/results` is no room."""
        entries: dict[str, set[str]] = {}
        for path in self.files:
            child = Path(path)
            for parent in child.parents:
                entries.setdefault(parent.as_posix(), set()).add(child.name)
                child = parent
        return {room: len(found) for room, found in entries.items() if not _is_in(room, "benchmarks/results")}


def read_layout(root: Path) -> Layout:
    layout = Layout(root, files=tracked_files(root))
    modules = _modules(layout.files)
    for path in layout.files:
        if not path.endswith(".py"):
            continue
        text = (root / path).read_text(encoding="utf-8")
        tree = ast.parse(text, filename=path)
        layout.functions += _functions(tree, path, text.splitlines())
        is_ours = any(_is_in(path, folder) for folder in PACKAGES.values())
        if is_ours:
            layout.imports += _imports(tree, path, modules)
    return layout


def tracked_files(root: Path) -> list[str]:
    """What git tracks or would track; in an archive without git, every file that is no cache."""
    if (root / ".git").exists():
        command = ["git", "-C", str(root), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\0")
        return sorted({name for name in listed if name and (root / name).is_file()})
    found = (p for p in root.rglob("*") if p.is_file() and "__pycache__" not in p.parts)
    return sorted(p.relative_to(root).as_posix() for p in found)


def _modules(files: list[str]) -> dict[str, str]:
    """Dotted name of each module of ours -> its path."""
    modules = {}
    for package, folder in PACKAGES.items():
        for path in files:
            if path.endswith(".py") and _is_in(path, folder):
                parts = Path(path).relative_to(folder).with_suffix("").parts
                if parts[-1] == "__init__":
                    parts = parts[:-1]
                modules[".".join((package, *parts))] = path
    return modules


def _imports(tree: ast.Module, path: str, modules: dict[str, str]) -> Iterator[Import]:
    for node, is_deferred in _walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name in modules else node.module for name in names]
        else:
            continue
        for name in names:
            target = modules.get(name)
            if target is not None and target != path:
                yield Import(path, target, is_deferred)


def _walk(node: ast.AST, is_deferred: bool = False) -> Iterator[tuple[ast.AST, bool]]:
    """Every node, and whether it lies in a function or under `if TYPE_CHECKING`."""
    for child in ast.iter_child_nodes(node):
        yield child, is_deferred
        is_typing = isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING")
        yield from _walk(child, is_deferred or is_typing or isinstance(child, _FUNCTIONS))


def _functions(tree: ast.Module, path: str, lines: list[str]) -> Iterator[Function]:
    def visit(node: ast.AST, names: tuple[str, ...]) -> Iterator[Function]:
        for child in ast.iter_child_nodes(node):
            inner = names
            if isinstance(child, (*_FUNCTIONS, ast.ClassDef)):
                inner = (*names, child.name)
            if isinstance(child, _FUNCTIONS):
                length = (child.end_lineno or child.lineno) - child.lineno + 1
                first = min([child.lineno, *(d.lineno for d in child.decorator_list)])
                yield Function(
                    path, ".".join(inner), length, _nesting(child.body), _is_defended(lines, first)
                )
            yield from visit(child, inner)

    yield from visit(tree, ())


def _is_defended(lines: list[str], first: int) -> bool:
    """Whether the comment directly above line `first` (from 1) holds the defense."""
    above = first - 2
    while above >= 0 and lines[above].lstrip().startswith("#"):
        if DEFENSE in lines[above]:
            return True
        above -= 1
    return False


def _nesting(body: list[ast.stmt]) -> int:
    deepest = 0
    for statement in body:
        if isinstance(statement, (*_LEVELS, *_FUNCTIONS)):
            deepest = max(deepest, 1 + max((_nesting(block) for block in _blocks(statement)), default=0))
        elif isinstance(statement, ast.ClassDef):
            deepest = max(deepest, _nesting(statement.body))
    return deepest


def _blocks(statement: ast.stmt) -> Iterator[list[ast.stmt]]:
    """The blocks one level below a statement; those of an `elif` count as the `if`'s own."""
    for name in ("body", "finalbody"):
        yield getattr(statement, name, [])
    for handler in getattr(statement, "handlers", []):
        yield handler.body
    for case in getattr(statement, "cases", []):
        yield case.body
    otherwise = getattr(statement, "orelse", [])
    if isinstance(statement, ast.If) and len(otherwise) == 1 and isinstance(otherwise[0], ast.If):
        yield from _blocks(otherwise[0])
    else:
        yield otherwise


def _is_in(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder + "/")


def _entry(path: str, room: str) -> str:
    """The entry of `room` that `path` lies in: the file itself or a sub-room."""
    return f"{room}/{path[len(room) + 1 :].split('/')[0]}"


def _strongly_connected(arrows: dict[str, set[str]]) -> list[set[str]]:
    """Tarjan's algorithm with a stack of its own."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    groups: list[set[str]] = []
    nodes = sorted(set(arrows).union(*arrows.values())) if arrows else []
    for start in nodes:
        if start in index:
            continue
        work = [(start, iter(sorted(arrows.get(start, ()))))]
        index[start] = low[start] = len(index)
        stack.append(start)
        while work:
            node, following = work[-1]
            step = next(following, None)
            if step is None:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[node])
                if low[node] == index[node]:
                    cut = stack.index(node)
                    groups.append(set(stack[cut:]))
                    del stack[cut:]
            elif step not in index:
                index[step] = low[step] = len(index)
                stack.append(step)
                work.append((step, iter(sorted(arrows.get(step, ())))))
            elif step in stack:
                low[node] = min(low[node], index[step])
    return groups
