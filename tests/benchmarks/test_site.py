"""The site is built without a warning, every link leads somewhere, and nothing is loaded from elsewhere."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from benchmarks.site.build import build_site
from benchmarks.site.links import Report, read_site
from tests.benchmarks.browsing import open_site, search_in
from tests.runtime.explain.browser import AXE, CHROMIUM
from tests.support.paths import ROOT

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Report]:
    pytest.importorskip("mkdocs", reason="needs pip install 'edgesparse[docs]'")
    site = tmp_path_factory.mktemp("site")
    return site, build_site(site)


def test_site_builds_without_a_warning_and_no_link_is_broken(built: tuple[Path, Report]) -> None:
    site, report = built
    assert report.broken == [] and report.outside == []
    pages = {path.relative_to(ROOT / "docs").with_suffix(".html") for path in (ROOT / "docs").rglob("*.md")}
    assert len(pages) > 20 and all((site / page).is_file() for page in pages)
    assert report.links > 20 * len(pages)


def test_pages_are_filled_from_the_sources(built: tuple[Path, Report]) -> None:
    site, _ = built
    found = {
        "reference/runtime.html": 'id="edgesparse_runtime.Session.predict"',
        "reference/estimators.html": 'id="edgesparse.estimators.SparseTransformerClassifier.fit"',
        "reference/edgesparse.html": 'id="edgesparse.sparsify"',
        "reference/export.html": 'id="edgesparse_export.export_run"',
        "reference/command-line.html": "--save-spec",
    }
    for page, part in found.items():
        assert part in (site / page).read_text(encoding="utf-8"), page
    examples = (site / "examples.html").read_text(encoding="utf-8")
    for script in (ROOT / "examples").glob("*.py"):
        assert examples.count(f"examples/{script.name}") >= 2, script.name


def test_no_link_leaves_the_site(built: tuple[Path, Report]) -> None:
    """In the repository the page links to the file; here it names it."""
    site, _ = built
    page = (site / "threat-model.html").read_text(encoding="utf-8")
    assert "<code>SECURITY.md</code>" in page and "../SECURITY.md" not in page


PAGE = '<a id="here"></a><a href="{}">x</a><img src="{}" alt=""><link rel="stylesheet" href="style.css">'


@pytest.mark.parametrize(
    ("link", "picture", "broken", "outside"),
    [
        ("#here", "data:image/png;base64,AA", 0, 0),
        ("#there", "picture.png", 1, 0),
        ("other.html#place", "picture.png", 0, 0),
        ("other.html#no", "picture.png", 1, 0),
        ("missing.html", "missing.png", 2, 0),
        ("../outside.html", "picture.png", 1, 0),
        ("https://example.org", "https://example.org/x.png", 0, 1),
        ("https://example.org", "//example.org/x.png", 0, 1),
    ],
)
def test_links_are_read(tmp_path: Path, link: str, picture: str, broken: int, outside: int) -> None:
    site = tmp_path / "site"
    site.mkdir()
    (tmp_path / "outside.html").touch()
    (site / "picture.png").touch()
    (site / "style.css").touch()
    (site / "other.html").write_text('<p id="place">')
    (site / "index.html").write_text(PAGE.format(link, picture))
    report = read_site(site)
    assert (report.pages, len(report.broken), len(report.outside)) == (2, broken, outside)


def test_styles_load_nothing_from_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "style.css").write_text(
        "a { background: url('https://example.org/a.png') } b { src: url(b.woff) }"
    )
    assert read_site(tmp_path).outside == ["style.css: https://example.org/a.png"]


NEEDS_BROWSER = pytest.mark.skipif(CHROMIUM is None, reason="needs the Debian package chromium")


@NEEDS_BROWSER
def test_a_browser_loads_nothing_from_elsewhere(built: tuple[Path, Report], tmp_path: Path) -> None:
    found, console = open_site(built[0], ["index.html", "guides/data.html"], 390, tmp_path, None)
    assert console == [] and len(found) == 2
    for page in found.values():
        assert page["elsewhere"] == [] and page["wide"] <= page["width"] and "EdgeSparse" in page["title"]


@NEEDS_BROWSER
def test_search_works_from_a_folder(built: tuple[Path, Report], tmp_path: Path) -> None:
    """Opened as a file, with no server, where browsers start no worker."""
    text, console = search_in(built[0] / "guides" / "data.html", "decimal", tmp_path)
    assert console == [] and "matching documents" in text and "Your data" in text


@NEEDS_BROWSER
@pytest.mark.skipif(AXE is None, reason="needs axe-core in EDGESPARSE_AXE")
@pytest.mark.parametrize(("width", "is_dark"), [(390, False), (1440, False), (390, True)])
def test_axe_finds_nothing_on_any_page(
    built: tuple[Path, Report], tmp_path: Path, width: int, is_dark: bool
) -> None:
    assert AXE is not None
    site = built[0]
    pages = sorted(path.relative_to(site).as_posix() for path in site.rglob("*.html"))
    # A shortened proof opens some of them.
    pages = pages[:: max(1, len(pages) // int(os.environ.get("EDGESPARSE_SITE_PAGES", len(pages))))]
    found, console = open_site(site, pages, width, tmp_path, Path(AXE), is_dark=is_dark)
    assert {name: page["violations"] for name, page in found.items() if page["violations"]} == {}
    assert console == [] and [n for n, page in found.items() if page["wide"] > page["width"]] == []
