"""The Cyber Resilience Act's technical file: every figure from a named source, every gap told."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgesparse_runtime.bundle.read import Bundle, open_bundle
from edgesparse_runtime.bundle.write import copy_bundle
from edgesparse_runtime.cli.app import run
from edgesparse_runtime.data.series_set import SeriesSet
from edgesparse_runtime.deploying.sbom import bundle_bom
from edgesparse_runtime.deploying.technical.entries import ENTRIES, REQUIREMENT_KEYS
from edgesparse_runtime.deploying.technical.facts import technical_facts
from edgesparse_runtime.deploying.technical.page import technical_page
from edgesparse_runtime.deploying.technical.points import BOM, GOLDEN, MANIFEST, SOFTWARE
from edgesparse_runtime.deploying.technical.reports import EXPECTED, read_reports
from edgesparse_runtime.errors import InputError
from edgesparse_runtime.evaluation.verify import Check, verify
from tests.runtime.explain.browser import AXE, CHROMIUM, open_page
from tests.runtime.explain.reading import NUMBER, Texts, figures, is_figure
from tests.runtime.measure.decision_results import make_result

# Points of Annex VII of Regulation (EU) 2024/2847.
ANNEX_VII = ["1 (a)", "1 (b)", "1 (c)", "1 (d)", "2 (a)", "2 (b)", "2 (c)", *"345678"]
OPEN = "To be filled in by the manufacturer"


@pytest.fixture(scope="module")
def reports(shared_bundle: Bundle, series: SeriesSet, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """One of each kind, as the verbs write them."""
    folder = tmp_path_factory.mktemp("reports")
    data, learned = folder / "d.npz", folder / "tiny.edgesparse"
    np.savez(data, X=series.to_batch(), y=series.labels)
    shutil.copytree(shared_bundle.path, learned)
    print_json_of("monitor", "learn", learned, data)
    verbs: dict[str, list[object]] = {
        "evaluate": [shared_bundle.path, data],
        "report": [shared_bundle.path, "--data", data, "--seconds", "0.05"],
        "profile": [shared_bundle.path, "--seconds", "0.05", "--no-modules", "--threads", "1"],
        "verify": [shared_bundle.path],
        "monitor": [learned, data, "--false-alarms", "1/100000w"],
    }
    for verb, words in verbs.items():
        (folder / f"{verb}.json").write_text(print_json_of(verb, *words), encoding="utf-8")
    return [folder / f"{verb}.json" for verb in verbs]


def print_json_of(*words: object) -> str:
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        assert run([*map(str, words), "--json"]) == 0
    return printed.getvalue()


@pytest.fixture(scope="module")
def checks(shared_bundle: Bundle) -> list[Check]:
    return verify(shared_bundle, threads=1)


def facts_of(
    bundle: Bundle, checks: list[Check], reports: list[Path] | None = None, **stated: str
) -> dict[str, Any]:
    found = technical_facts(
        bundle,
        bundle_bom(bundle),
        checks,
        stated=stated,
        reports=read_reports(reports or [], bundle),
        bom_file=None,
        written="2026-11-27T12:00:00Z",
    )
    told: dict[str, Any] = json.loads(json.dumps(found))
    return told


def strings(value: Any) -> Iterator[str]:
    """Every text of a result, keys too."""
    if isinstance(value, dict):
        yield from value
        for inner in value.values():
            yield from strings(inner)
    elif isinstance(value, list):
        yield str(len(value))
        for inner in value:
            yield from strings(inner)
    elif isinstance(value, str):
        yield value


def unknown_in(text: str, source: Any) -> list[str]:
    """Figures of a text that its source has neither as a number nor inside a text."""
    tokens = set(NUMBER.findall(" ".join(strings(source))))
    known = list(figures(source))
    return [t for t in NUMBER.findall(text) if t not in tokens and not is_figure(t, known)]


def test_every_figure_is_found_in_the_source_that_stands_beside_it(
    shared_bundle: Bundle, checks: list[Check], reports: list[Path]
) -> None:
    facts = facts_of(shared_bundle, checks, reports)
    bom = bundle_bom(shared_bundle)
    libraries = [part for part in bom["components"] if part["type"] == "library"]
    told = [check.to_dict() for check in checks]
    manifest = json.loads((shared_bundle.path / "manifest.json").read_text(encoding="utf-8"))
    manifest |= {
        "release": 0,
        "sha256": shared_bundle.sha256,
        "precisions": ", ".join(shared_bundle.precisions),
    }
    sources: dict[str, Any] = {
        MANIFEST: manifest,
        BOM: {**bom, "libraries": libraries},
        GOLDEN: [told, [check for check in told if check["holds"]]],
        SOFTWARE: [],
    }
    count = 0
    for point in facts["points"].values():
        for fact in point["facts"]:
            # References to other points are no figures.
            text = fact["value"].split("; point ")[0].replace("(8 e)", "").replace("Ed25519", "")
            assert not unknown_in(text, sources[fact["source"]]), fact
            count += len(NUMBER.findall(text))
    assert count > 40
    assert [report["name"] for report in facts["reports"]] == [path.name for path in reports]
    for report, path in zip(facts["reports"], reports, strict=True):
        source = json.loads(path.read_text(encoding="utf-8"))
        if report["kind"] == "verify":
            source["held"] = [check for check in source["checks"] if check["holds"]]
        rows = [value for _, value in report["figures"]]
        text = " ".join(rows).replace("p50", "").replace("p99", "")
        assert NUMBER.findall(text) and not unknown_in(text, source), (report, unknown_in(text, source))
        assert report["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert unknown_in("0.4172", manifest)


def test_the_page_has_no_figure_that_is_not_in_its_facts(
    shared_bundle: Bundle, checks: list[Check], reports: list[Path]
) -> None:
    facts = facts_of(shared_bundle, checks, reports)
    page = technical_page(facts)
    known = facts | {"filled": facts["entries"] - len(facts["open"]), "unfilled": len(facts["open"])}
    fixed = technical_page(
        facts | {"points": {}, "bundle": "", "written": "", "edgesparse": "", "entries": 0, "open": []}
    )
    legal = set(NUMBER.findall(" ".join([*Texts(fixed).found, "sha256 8 2 13"])))

    def strangers(text: str) -> list[str]:
        rest = " ".join(Texts(text).found)
        return [token for token in unknown_in(rest, known) if token not in legal]

    assert not strangers(page)
    accuracy = next(value for kind, value in facts["reports"][0]["figures"] if kind == "accuracy")
    assert accuracy in page and strangers(page.replace(accuracy, "0.4172"))


def test_nothing_is_invented_for_the_manufacturer(shared_bundle: Bundle, checks: list[Check]) -> None:
    facts = facts_of(shared_bundle, checks)
    assert list(facts["points"]) == ANNEX_VII
    assert [r["letter"] for r in facts["requirements"]] == list("abcdefghijklm")
    keys = {entry.key for entry in ENTRIES} | set(REQUIREMENT_KEYS)
    assert {entry.point for entry in ENTRIES} == set(ANNEX_VII) - {"8"}
    assert set(facts["open"]) == keys and facts["entries"] == len(keys) == 34
    page = technical_page(facts)
    assert page.count(OPEN) == 34 and "Stated by the manufacturer" not in page
    assert "Incomplete: 0 of 34 entries of the manufacturer are filled in; 34 are marked below." in page
    assert "no legal advice and no declaration of conformity" in page
    assert all(key in page for key in keys)
    # The dates and the period of the regulation itself.
    for text in ("(EU) 2024/2847", "from 11 December 2027", "from 11 September 2026", "at least five years"):
        assert text in page


def test_entries_are_quoted_as_stated(shared_bundle: Bundle, checks: list[Check]) -> None:
    stated = {"manufacturer": "Pump <b>GmbH</b>\nBerlin", "requirement_f": "Applies: signed releases."}
    page = technical_page(facts_of(shared_bundle, checks, **stated))
    assert page.count(OPEN) == 32 and page.count("Stated by the manufacturer") == 2
    assert "Pump &lt;b&gt;GmbH&lt;/b&gt;<br>Berlin" in page and "Applies: signed releases." in page
    everything = dict.fromkeys([*(e.key for e in ENTRIES), *REQUIREMENT_KEYS], "see file 7")
    page = technical_page(facts_of(shared_bundle, checks, **everything))
    assert OPEN not in page and "34 of 34 entries of the manufacturer are filled in." in page


def test_missing_reports_are_said_to_be_missing(
    shared_bundle: Bundle, checks: list[Check], reports: list[Path]
) -> None:
    facts = facts_of(shared_bundle, checks, reports[:1])
    assert [row["kind"] for row in facts["missing_reports"]] == [k for k in EXPECTED if k != "evaluate"]
    page = technical_page(facts)
    assert "Missing: no report was given of" in page and "edgesparse profile BUNDLE --json" in page
    assert "edgesparse evaluate BUNDLE TEST --json" not in page
    assert "it was not written beside this page" in page
    assert "Missing: no report" not in technical_page(facts_of(shared_bundle, checks, reports))


def test_reports_are_tied_to_the_bundle_by_the_hash_of_its_model(
    shared_bundle: Bundle, reports: list[Path], tmp_path: Path
) -> None:
    ties = {report.kind: report.ties for report in read_reports(reports, shared_bundle)}
    hashed = "names the hash of this bundle's model"
    assert ties.pop("profile").startswith("names no hash; it is of ") and set(ties.values()) == {hashed}
    other = tmp_path / "other.json"
    for path in reports[:2]:
        content = path.read_text(encoding="utf-8")
        for precision in shared_bundle.precisions:
            name = shared_bundle.model_file(precision)
            content = content.replace(shared_bundle.manifest["files"][name]["sha256"], "ab" * 32)
        other.write_text(content, encoding="utf-8")
        with pytest.raises(InputError, match="measured another model than this bundle's"):
            read_reports([other], shared_bundle)
    result = make_result(alike=True)
    name = shared_bundle.model_file("float32")
    result["models"]["dense float32"]["sha256"] = shared_bundle.manifest["files"][name]["sha256"]
    other.write_text(json.dumps(result), encoding="utf-8")
    (poc,) = read_reports([other], shared_bundle)
    row = result["models"]["dense float32"]
    assert dict(poc.figures)["accuracy, float32"].startswith(f"{row['accuracy']['value']:.3f} [")
    assert poc.kind == "poc" and len(poc.figures) == 5


def test_a_bundle_that_does_not_reproduce_its_answers_is_called_so(
    shared_bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    golden = {name: array.copy() for name, array in shared_bundle.golden().items()}
    golden["scores_float32"] = golden["scores_float32"][:, ::-1]
    stream = io.BytesIO()
    np.savez(stream, **golden)
    path = tmp_path / "wrong.edgesparse"
    copy_bundle(shared_bundle, path, {"golden.npz": stream.getvalue()}, {})
    page = tmp_path / "page.html"
    assert run(["sbom", str(path), "--technical-file", str(page)]) == 3
    assert "does not reproduce its recorded results" in capsys.readouterr().err
    told = page.read_text(encoding="utf-8")
    assert "does NOT reproduce its recorded answers" in told and "BROKEN: largest difference" in told


def test_the_verb_writes_page_json_and_bill(
    shared_bundle: Bundle, reports: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    entries, bill = tmp_path / "entries.json", tmp_path / "tiny.cdx.json"
    entries.write_text('{"manufacturer": "Pump GmbH", "declaration": " "}', encoding="utf-8")
    page, facts = tmp_path / "tiny.html", tmp_path / "tiny.json"
    words = ["sbom", shared_bundle.path, "-o", bill, "--technical-file", page, "--technical-file", facts]
    words += ["--report", reports[0], "--entries", entries, "--json"]
    assert run([str(word) for word in words]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["holds"] and printed["filled_in"] == 1 and "declaration" in printed["to_fill_in"]
    assert printed["missing_reports"] == [kind for kind in EXPECTED if kind != "evaluate"]
    told = json.loads(facts.read_text(encoding="utf-8"))
    assert told["schema"] == "edgesparse.technical_file/1" and told["open"] == printed["to_fill_in"]
    sha256 = hashlib.sha256(bill.read_bytes()).hexdigest()
    assert f"tiny.cdx.json, sha256 {sha256}" in page.read_text(encoding="utf-8")
    assert json.loads(bill.read_text(encoding="utf-8"))["bomFormat"] == "CycloneDX"
    assert open_bundle(shared_bundle.path).sha256 == told["sha256"]


def test_bad_requests_end_in_one_line(
    shared_bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle, page = str(shared_bundle.path), str(tmp_path / "page.html")
    files = {"list": "[]", "key": '{"manufactuer": "x"}', "number": '{"manufacturer": 7}', "half": "{"}
    files |= {"stranger": '{"schema": "other/1"}', "torn": '{"schema": "edgesparse.evaluate/1"}'}
    for name, content in files.items():
        (tmp_path / f"{name}.json").write_text(content, encoding="utf-8")
    asked = ["sbom", bundle, "--technical-file", page]
    cases = (
        (["sbom", "--technical-file", page], "`--technical-file` is of a bundle"),
        (["sbom", bundle, "--report", "x.json"], "are for a technical file"),
        (["sbom", bundle, "--technical-file", "page.pdf"], "must end in .html or .json; got page.pdf"),
        ([*asked, "--entries", str(tmp_path / "none.json")], "none.json: No such file or directory"),
        ([*asked, "--entries", str(tmp_path / "list.json")], "must be a JSON object of texts by key"),
        ([*asked, "--entries", str(tmp_path / "key.json")], "Did you mean manufacturer?"),
        ([*asked, "--entries", str(tmp_path / "number.json")], "manufacturer must be a text"),
        ([*asked, "--entries", str(tmp_path / "half.json")], "must be JSON in UTF-8"),
        ([*asked, "--report", str(tmp_path / "half.json")], "must be JSON that a verb of edgesparse wrote"),
        ([*asked, "--report", str(tmp_path / "stranger.json")], "must be JSON that a verb of edgesparse"),
        ([*asked, "--report", str(tmp_path / "torn.json")], "torn.json is damaged"),
        ([*asked, "-o", page], "would overwrite the input"),
    )
    for words, message in cases:
        assert run(words) == 2, words
        said = capsys.readouterr().err
        assert message in said and said.count("\n") == 1, said
    assert not Path(page).exists()


def test_page_needs_nothing_else_and_is_readable_by_all(shared_bundle: Bundle, checks: list[Check]) -> None:
    page = technical_page(facts_of(shared_bundle, checks))
    assert "http" not in page and "src=" not in page and "<script" not in page
    tags = Texts(page).tags
    names = [tag for tag, _ in tags]
    assert dict(tags[names.index("html")][1])["lang"] == "en"
    assert names.count("h1") == names.count("main") == 1 and names.count("h2") == len(ANNEX_VII) + 1
    assert names.count("dt") == names.count("dd") and "@media print" in page


@pytest.mark.skipif(CHROMIUM is None, reason="needs the Debian package chromium")
@pytest.mark.parametrize("width", [390, 1440])
def test_a_browser_shows_it_whole(
    shared_bundle: Bundle, checks: list[Check], reports: list[Path], tmp_path: Path, width: int
) -> None:
    (tmp_path / "page.html").write_text(
        technical_page(facts_of(shared_bundle, checks, reports)), encoding="utf-8"
    )
    found = open_page(tmp_path / "page.html", width, tmp_path, None if AXE is None else Path(AXE))
    assert found["wide"] <= found["width"] and found["smallest"] >= 14
    assert found["requests"] == [] and found["console"] == [] and found["violations"] == []
