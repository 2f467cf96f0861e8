"""The page: every figure comes from the result, nothing is loaded, and people can read it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgesparse_runtime.bundle.read import Bundle
from edgesparse_runtime.cli.app import run
from edgesparse_runtime.data.series_set import SeriesSet
from edgesparse_runtime.explain.page.whole_set import set_page
from edgesparse_runtime.explain.page.window import window_page
from edgesparse_runtime.explain.page.words import LANGUAGES, all_texts
from edgesparse_runtime.explain.whole_set import explain_set
from edgesparse_runtime.explain.window import Explainer
from edgesparse_runtime.session import Session
from tests.runtime.explain.browser import AXE, CHROMIUM, open_page
from tests.runtime.explain.reading import NUMBER, Texts, figures, is_figure


@pytest.fixture(scope="module")
def results(shared_bundle: Bundle, series: SeriesSet) -> dict[str, Any]:
    explainer = Explainer(Session(shared_bundle, precision="float32"))
    window = explainer.session.prepare(series.take([1]))[0]
    facts = {"bundle": "pump.edgesparse", "data": "pump.csv", "index": 1}
    one = explainer.explain(window, facts).to_dict()
    few = explain_set(explainer, series.take(range(6))).to_dict()
    return {"window": (one, window), "set": ({**few, "bundle": "pump.edgesparse", "data": "pump.csv"}, None)}


def make(results: dict[str, Any], kind: str, language: str) -> tuple[str, dict[str, Any]]:
    result, window = results[kind]
    page = set_page(result, language) if window is None else window_page(result, window, language)
    return page, result


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("kind", ["window", "set"])
def test_every_figure_is_in_the_result(results: dict[str, Any], kind: str, language: str) -> None:
    page, result = make(results, kind, language)
    known = list(figures(json.loads(json.dumps(result))))
    known += [float(f"{100 * i / 16:.0f}") for i in range(17)]
    # Numbers of the sentences themselves, and of layers' names.
    fixed = set(NUMBER.findall(" ".join(all_texts(language))))
    texts = [t for t in Texts(page).found if not t.startswith("layers.")]
    wrong = [
        token
        for text in texts
        for token in NUMBER.findall(text.replace("–", " ").replace("layers.", "layers"))
        if token not in fixed and not is_figure(token, known)
    ]
    assert not wrong


def test_a_changed_figure_is_noticed(results: dict[str, Any]) -> None:
    known = list(figures(results["window"][0]))
    assert not is_figure("7.654321", known) and is_figure(f"{known[-1]:.3g}", known)


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("kind", ["window", "set"])
def test_page_needs_nothing_else_and_is_readable_by_all(
    results: dict[str, Any], kind: str, language: str
) -> None:
    page, _ = make(results, kind, language)
    assert "http" not in page and "<script" not in page and "url(" not in page
    tags = Texts(page).tags
    names = [tag for tag, _ in tags]
    assert dict(tags[names.index("html")][1])["lang"] == language
    assert names.count("h1") == names.count("main") == 1
    assert all(a.get("role") == "img" and a.get("aria-label") for tag, a in tags if tag == "svg")
    assert all(a.get("scope") in ("col", "row") for tag, a in tags if tag == "th")
    scrolls = [a for tag, a in tags if a.get("class") == "scroll"]
    assert scrolls and all(a["tabindex"] == "0" and a["aria-label"] for a in scrolls)
    assert len({a["aria-label"] for a in scrolls}) == len(scrolls)
    assert names.count("table") == names.count("caption") == len(scrolls)
    assert "@media print" in page


def test_the_page_says_when_not_to_rely_on_it(results: dict[str, Any]) -> None:
    result, window = results["window"]
    good = window_page({**result, "reliable": True}, window)
    bad = window_page({**result, "reliable": False}, window)
    assert "Do not rely on this map" in bad and "Do not rely on this map" not in good


def test_a_page_without_routing_says_so(results: dict[str, Any]) -> None:
    from edgesparse_runtime.explain.routing import NO_ATTENTION

    result, window = results["window"]
    without = {**result, "routing": None, "routing_note": NO_ATTENTION, "agreement": None}
    assert NO_ATTENTION in window_page(without, window)
    assert "疎な注意機構がない" in window_page(without, window, "ja")


def test_names_are_escaped(results: dict[str, Any]) -> None:
    result, window = results["window"]
    page = window_page({**result, "data": "<b>&\u202e"}, window)
    assert "&lt;b&gt;&amp;" in page and "<b>&" not in page and "\u202e" not in page


def test_command_line_writes_it(
    shared_bundle: Bundle, series: SeriesSet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import numpy as np

    np.savez(tmp_path / "d.npz", X=series.take([0, 1]).to_batch())
    common = ["explain", str(shared_bundle.path), str(tmp_path / "d.npz")]
    assert run([*common, "-o", str(tmp_path / "set.html"), "--lang", "ja"]) == 0
    assert run([*common, "--index", "0", "-o", str(tmp_path / "one.html")]) == 0
    assert 'lang="ja"' in (tmp_path / "set.html").read_text(encoding="utf-8")
    assert 'lang="en"' in (tmp_path / "one.html").read_text(encoding="utf-8")
    capsys.readouterr()
    assert run([*common, "-o", str(tmp_path / "x.pdf")]) == 2
    assert run([*common, "--lang", "de"]) == 2
    assert "`--lang` must be en or ja; got de." in capsys.readouterr().err


@pytest.mark.skipif(CHROMIUM is None, reason="needs the Debian package chromium")
@pytest.mark.parametrize("width", [390, 1440])
def test_a_browser_shows_it_whole_and_asks_for_nothing(
    results: dict[str, Any], tmp_path: Path, width: int
) -> None:
    page, _ = make(results, "window", "en")
    (tmp_path / "page.html").write_text(page, encoding="utf-8")
    found = open_page(tmp_path / "page.html", width, tmp_path)
    assert found["wide"] <= found["width"] and found["smallest"] >= 14
    assert found["requests"] == [] and found["console"] == []


@pytest.mark.skipif(CHROMIUM is None or AXE is None, reason="needs chromium, and axe-core in EDGESPARSE_AXE")
@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("kind", ["window", "set"])
def test_axe_finds_nothing(results: dict[str, Any], tmp_path: Path, kind: str, language: str) -> None:
    assert AXE is not None
    (tmp_path / "page.html").write_text(make(results, kind, language)[0], encoding="utf-8")
    assert open_page(tmp_path / "page.html", 390, tmp_path, Path(AXE))["violations"] == []
