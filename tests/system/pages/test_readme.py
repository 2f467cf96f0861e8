"""What README and docs say exists, exists."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from edgesparse_runtime.bundle.names import SCHEMA_VERSION
from edgesparse_runtime.bundle.read import Bundle
from edgesparse_runtime.cli.app import VERBS

ROOT = Path(__file__).resolve().parents[3]
PAGES = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "runtime" / "kernels" / "README.md"]
)


def test_verbs_of_the_readme_exist() -> None:
    named = set(re.findall(r"^\$ edgesparse (\w+)", (ROOT / "README.md").read_text(), flags=re.MULTILINE))
    assert named == {"train", "export", "quantize", "verify", "evaluate", "profile", "compare", "run"}
    assert named <= set(VERBS)


@pytest.mark.parametrize("page", [p for p in PAGES if p.exists()], ids=lambda p: str(p.relative_to(ROOT)))
def test_links_and_make_targets_lead_somewhere(page: Path) -> None:
    text = page.read_text()
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        assert (page.parent / target).exists(), target
    rules = "".join(p.read_text() for p in [ROOT / "Makefile", *ROOT.glob("runtime/kernels/*.mk")])
    for word in re.findall(r"`make ([a-z0-9-]+)", text):
        assert re.search(rf"^{word}:", rules, flags=re.MULTILINE), word


def test_extras_of_the_readme_are_those_there_are() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    page = (ROOT / "README.md").read_text()
    named = set(re.findall(r"`edgesparse\[(\w+)\]`", page))
    assert named <= set(extras)
    assert named >= {"serve", "sign", "ray"}
    assert ("ray" in extras["all"][0]) == ("everything but Ray" not in " ".join(page.split()))


def test_manifest_page_is_of_this_schema(shared_bundle: Bundle) -> None:
    page = (ROOT / "docs" / "reference" / "bundle.md").read_text()
    assert f"schema version {SCHEMA_VERSION}" in page
    for field in shared_bundle.manifest:
        assert f"`{field}`" in page, field
