"""The site's lines of `make prove-people`: it builds, its snippets run, and people can read it."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from benchmarks.site.build import SiteError, build_site
from benchmarks.site.screenshots import IMAGES, MOST_BYTES
from benchmarks.support.axe import find_axe
from benchmarks.support.settings import QUICK, SCRATCH
from tests.support.paths import ROOT, source_environment

SNIPPETS = "tests/system/pages"
SITE_TESTS = "tests/benchmarks/test_site.py"
# Few of the pages in a shortened run: each is opened for about a second.
QUICK_PAGES = "4"


class Shown(NamedTuple):
    """What a proof prints of the site.

    Attributes:
        holds: None = not measured, and `figure` says why.
    """

    name: str
    holds: bool | None
    figure: str
    target: str
    note: str = ""


def check_site() -> list[Shown]:
    """Every claim, in the order of the page's life."""
    return [compare_build(), compare_snippets(), compare_browser(), compare_pictures()]


def compare_build() -> Shown:
    """Warnings are errors, and the HTML's own links are followed."""
    name, target = "site: built with warnings as errors, every link followed", "none wrong"
    try:
        report = build_site(SCRATCH / "site")
    except SiteError as error:
        return Shown(name, False, str(error).splitlines()[-1][:200], target)
    wrong = [*report.broken, *report.outside]
    figure = f"{report.pages} pages, {report.links} links, {len(wrong)} wrong"
    return Shown(name, not wrong and report.pages > 20, figure, target, "; ".join(wrong[:5]))


def compare_snippets() -> Shown:
    """Python blocks and commands of every page; tutorials whole, as a reader runs them, unless QUICK=1."""
    name, target = "site: commands and Python of the pages", "all that can run"
    how: dict[str, str] = {} if QUICK else {"EDGESPARSE_LONG": "1"}
    chosen = f"{SNIPPETS}/test_commands.py" if QUICK else SNIPPETS
    counts, said = _run_tests([chosen], how)
    figure = ", ".join(f"{count} {word}" for word, count in counts.items())
    holds = counts.get("passed", 0) > 30 and not counts.keys() & {"failed", "error", "errors"}
    note = "tutorials not run" if QUICK else "tutorials run from empty folders"
    return Shown(name, holds, figure, target, note if holds else said)


def compare_browser() -> Shown:
    """Every page at 390 and 1,440 px, light and dark, by axe-core; nothing is loaded from elsewhere."""
    name, target = "site: axe-core at 390 and 1,440 px, light and dark; requests", "nothing found"
    script, reason = find_axe()
    if script is None or shutil.which("chromium") is None:
        return Shown(name, None, reason or "chromium is not installed", target)
    how = {"EDGESPARSE_AXE": str(script)}
    if QUICK:
        how["EDGESPARSE_SITE_PAGES"] = QUICK_PAGES
    counts, said = _run_tests([SITE_TESTS, "-k", "axe or browser or search"], how)
    figure = f"{counts.get('passed', 0)} passed, {counts.get('failed', 0)} failed"
    holds = counts.get("passed", 0) == 5 and not counts.keys() - {"passed", "deselected"}
    note = f"{QUICK_PAGES} of the pages" if QUICK else ""
    return Shown(name, holds, figure, target, note if holds else said)


def compare_pictures() -> Shown:
    """Each picture that a page shows is there and small; `explain` is shown in both languages."""
    name, target = (
        "site: pictures of pages and of a selection",
        f"all there, each under {MOST_BYTES / 1000:.0f} kB",
    )
    pages = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "docs").rglob("*.md"))
    shown = sorted(set(re.findall(r"images/([\w-]+\.\w+)\)", pages)))
    sizes = {entry: _size(IMAGES / entry) for entry in shown}
    wrong = [entry for entry, size in sizes.items() if not 0 < size <= MOST_BYTES]
    figure = (
        f"{len(shown) - len(wrong)} of {len(shown)}, largest {max(sizes.values(), default=0) / 1000:.0f} kB"
    )
    holds = not wrong and {"explain.png", "explain_ja.png", "selection.svg"} <= set(shown)
    return Shown(name, holds, figure, target, ", ".join(wrong))


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _run_tests(chosen: list[str], how: dict[str, str]) -> tuple[dict[str, int], str]:
    """Counts of pytest's last line by word, and the first failure."""
    environment = source_environment(**how)
    # These take the tutorials' time, not a test's.
    command = [sys.executable, "-m", "pytest", "-q", "--timeout", "3000", *chosen]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    rows = done.stdout.strip().splitlines() or [done.stderr[-200:]]
    counts = {
        word: int(count)
        for count, word in re.findall(r"(\d+) (passed|failed|skipped|errors?|deselected)", rows[-1])
    }
    return counts, next((row for row in rows if row.startswith(("FAILED", "ERROR"))), rows[-1])[:300]
