"""The shape of the repository: who may import whom, how full a room, how long and how deep a function.

`offenders.txt` lists what does not keep a rule yet. It may only shrink: a new offender fails, and so does
an entry whose offender has gone, with the line to remove.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.layout import DEFENSE, Layout, read_layout

ROOT = Path(__file__).resolve().parents[2]
OFFENDERS = Path(__file__).with_name("offenders.txt")
MOST_ENTRIES = 20
LONG_LINES = 60
MOST_LINES = 100
MOST_LONG = 10
"""Functions over 60 lines, each defended."""
MOST_NESTING = 5


@pytest.fixture(scope="module")
def layout() -> Layout:
    return read_layout(ROOT)


def check(rule: str, found: list[str]) -> None:
    lines = OFFENDERS.read_text(encoding="utf-8").splitlines()
    listed = {line.removeprefix(rule + ": ") for line in lines if line.startswith(rule + ": ")}
    new = sorted(set(found) - listed)
    assert not new, f"{rule}: new in the tree:\n" + "\n".join(new)
    gone = [f"{rule}: {entry}" for entry in sorted(listed - set(found))]
    assert not gone, f"no longer in the tree; remove from {OFFENDERS.name}:\n" + "\n".join(gone)


def test_no_file_is_in_a_circle(layout: Layout) -> None:
    check("circle", [" ".join(group) for group in layout.circles()])


def test_no_arrow_runs_back_up_inside_a_package(layout: Layout) -> None:
    arrows = [arrow.split(" -> ") for arrow in layout.arrows_back_up()]
    check("back up", sorted({f"{Path(a).parent} -> {Path(b).parent}" for a, b in arrows}))


def test_packages_import_in_one_direction(layout: Layout) -> None:
    check("direction", layout.against_the_direction())


def test_tests_and_benchmarks_do_not_import_each_other(layout: Layout) -> None:
    check("tests and benchmarks", layout.tests_and_benchmarks())


def test_no_room_is_too_full(layout: Layout) -> None:
    found = layout.entries_per_folder().items()
    check("full", [f"{room} ({entries})" for room, entries in found if entries > MOST_ENTRIES])


def test_functions_are_short_or_defended(layout: Layout) -> None:
    long = [f for f in layout.functions if f.lines > LONG_LINES]
    check(f'without "{DEFENSE}"', [f.label for f in long if not f.is_defended])
    check("longest", [f.label for f in long if f.lines > MOST_LINES])
    assert len(long) <= MOST_LONG, "\n".join(f"{f.label}: {f.lines} lines" for f in long)


def test_nothing_is_nested_too_deep(layout: Layout) -> None:
    check("nesting", [f.label for f in layout.functions if f.nesting > MOST_NESTING])


# The reader itself: a small tree that breaks each rule once.
LONG_BODY = "    pass\n" * (LONG_LINES + 1)
LONG_FUNCTIONS = f"def long():\n{LONG_BODY}# {DEFENSE} a table.\n@d\ndef defended():\n{LONG_BODY}"
SMALL_TREE = {
    "edgesparse/__init__.py": "",
    "edgesparse/a.py": "from edgesparse.b import x\n",
    "edgesparse/b.py": "def f():\n    from edgesparse import a\n",
    "edgesparse/room/__init__.py": "",
    "edgesparse/room/deep.py": "from edgesparse.c import y\n",
    "edgesparse/room/other.py": "",
    "edgesparse/c.py": "import edgesparse.room.other\n",
    "edgesparse/typed.py": "if TYPE_CHECKING:\n    import edgesparse_export\n",
    "export/edgesparse_export/__init__.py": "",
    "benchmarks/case.py": "from tests.edges import z\nfrom tests.support.shared import fine\n",
    "tests/edges.py": "import benchmarks.case\n",
    "tests/support/shared.py": "",
    "tests/benchmarks/test_case.py": "import benchmarks.case\n",
    "tests/long.py": LONG_FUNCTIONS,
    "tests/deep.py": (
        "def deep():\n    if a:\n        pass\n    elif b:\n        for c in d:\n            while e:\n"
        "                with f:\n                    try:\n                        pass\n"
        "                    finally:\n                        if g:\n                            pass\n"
    ),
}


@pytest.fixture
def small_tree(tmp_path: Path) -> Layout:
    for name, text in SMALL_TREE.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for i in range(MOST_ENTRIES + 1):
        (tmp_path / "tests" / f"{i}.txt").touch()
    return read_layout(tmp_path)


def test_the_reader_finds_each_kind_of_offender(small_tree: Layout) -> None:
    assert small_tree.circles() == [
        ["benchmarks/case.py", "tests/edges.py"],
        ["edgesparse/a.py", "edgesparse/b.py"],
    ]
    assert small_tree.arrows_back_up() == ["edgesparse/room/deep.py -> edgesparse/c.py"]
    assert small_tree.against_the_direction() == [
        "edgesparse/typed.py -> export/edgesparse_export/__init__.py"
    ]
    assert small_tree.tests_and_benchmarks() == [
        "benchmarks/case.py -> tests/edges.py",
        "tests/edges.py -> benchmarks/case.py",
    ]
    assert small_tree.entries_per_folder()["tests"] == MOST_ENTRIES + 1 + 5
    lengths = {f.label: (f.lines, f.is_defended) for f in small_tree.functions if f.lines > LONG_LINES}
    assert lengths == {"tests/long.py::long": (62, False), "tests/long.py::defended": (62, True)}
    assert {f.label: f.nesting for f in small_tree.functions}["tests/deep.py::deep"] == 6
