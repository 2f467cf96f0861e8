"""Text of a bundle, a data file or a client in what is written for others: data there, never syntax."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from edgesparse_runtime.bundle.manifest import manifest_schema, parse_manifest
from edgesparse_runtime.bundle.read import Bundle, all_files, open_bundle
from edgesparse_runtime.bundle.write import store_files
from edgesparse_runtime.cli.output import print_fields, print_table
from edgesparse_runtime.data.escape import (
    escape_csv_cell,
    escape_terminal,
    quote_pbtxt,
    quote_yaml,
    unquote_pbtxt,
)
from edgesparse_runtime.deploying.container import make_containerfile
from edgesparse_runtime.deploying.kserve import make_kserve
from edgesparse_runtime.deploying.triton_config import label_lines
from edgesparse_runtime.errors import BundleError, InputError

HOSTILE = {
    "a line break": "normal\nalarm",
    "a carriage return": "normal\ralarm",
    "a document of its own": "2026-01-01\n---\nkind: Pod",
    "a line break at the end": "normal\n",
    "an escape sequence": "\x1b[2J\x1b]0;owned\x07",
    "a terminal control of one byte": "\x9b2J",
    "a right-to-left mark": "\u202egnp.exe",
    "an isolate": "\u2066x\u2069",
    "a line separator": "a\u2028b",
    "a next line": "a\x85b",
    "a surrogate": "\ud800",
    "a NUL": "a\0b",
}
# Harmless as data, syntax to one reader or another.
SYNTAX = [
    "$(id)",
    "`id`",
    '"; rm',
    "a: b",
    "- x",
    "{{x}}",
    "#!",
    "%n",
    "\\x41",
    "*",
    "&a",
    "!!python",
    "<b>",
    "\u00fc",
]
FORMULAS = ["=1+1", "+1+x", "-2+3+cmd|' /C calc'!A0", "@SUM(A1)", "\t=1", " =1", "\uff1d1+1"]


def places(manifest: dict[str, Any]) -> list[list[str | int]]:
    """Where a string stands in a manifest, keys of open objects left out."""
    found: list[list[str | int]] = []

    def walk(value: Any, path: list[str | int]) -> None:
        if isinstance(value, str):
            found.append(path)
        for key, item in value.items() if isinstance(value, dict) else ():
            walk(item, [*path, key])
        for i, item in enumerate(value) if isinstance(value, list) else ():
            walk(item, [*path, i])

    walk(manifest, [])
    return found


def changed(manifest: Any, path: list[str | int], text: str) -> bytes:
    """The manifest's bytes with one string replaced."""
    copy = json.loads(json.dumps(manifest))
    inner = copy
    for part in path[:-1]:
        inner = inner[part]
    inner[path[-1]] = text
    return json.dumps(copy).encode()


@pytest.mark.parametrize("kind", HOSTILE)
def test_no_string_of_a_manifest_holds_more_than_a_line_of_text(kind: str, shared_bundle: Bundle) -> None:
    manifest = dict(shared_bundle.manifest)
    paths = places(manifest)
    assert len(paths) > 20
    for path in paths:
        with pytest.raises(BundleError) as caught:
            parse_manifest(changed(manifest, path, HOSTILE[kind]), Path("x"))
        assert str(caught.value).isprintable(), path


@pytest.mark.parametrize("kind", HOSTILE)
def test_nor_does_a_key(kind: str, shared_bundle: Bundle) -> None:
    for field in ("parity", "metrics", "models", "files", "unheard_of"):
        manifest = json.loads(json.dumps(shared_bundle.manifest))
        manifest.setdefault(field, {})[HOSTILE[kind]] = {"file": "model.onnx"}
        with pytest.raises(BundleError) as caught:
            parse_manifest(json.dumps(manifest).encode(), Path("x"))
        assert str(caught.value).isprintable(), field


def test_the_published_schema_refuses_them_too(shared_bundle: Bundle) -> None:
    """Not the line break at the end: the package reads `$` as Python does."""
    schema = manifest_schema()
    for field in ("created", "edgesparse", "name", "task"):
        for kind, text in HOSTILE.items():
            if not kind.endswith("end"):
                with pytest.raises(jsonschema.ValidationError):
                    jsonschema.validate({**shared_bundle.manifest, field: text}, schema)


@pytest.mark.parametrize("number", ["1" + "0" * 400, "-1" + "0" * 400, "1e999", "-1e999", "NaN", "Infinity"])
def test_numbers_that_are_none_are_refused(number: str, shared_bundle: Bundle) -> None:
    for field in ("budget", "parameters", "compute"):
        manifest = json.loads(json.dumps(shared_bundle.manifest))
        manifest[field] = {"attention_share": "@", "model_share": 0.5} if field == "compute" else "@"
        with pytest.raises(BundleError):
            parse_manifest(json.dumps(manifest).replace('"@"', number).encode(), Path("x"))


def test_a_name_that_comes_twice_is_refused(shared_bundle: Bundle) -> None:
    """Of two equal names one parser takes the first and another the last."""
    content = json.dumps(shared_bundle.manifest)
    with pytest.raises(BundleError, match="twice"):
        parse_manifest((content[:-1] + ', "name": "other"}').encode(), Path("x"))


def test_two_classes_of_one_name_are_refused(shared_bundle: Bundle) -> None:
    manifest = {**shared_bundle.manifest, "classes": ["normal", "normal"]}
    with pytest.raises(BundleError, match="without repetition"):
        parse_manifest(json.dumps(manifest).encode(), Path("x"))


def with_classes(folder: Path, bundle: Bundle, classes: list[str]) -> Bundle:
    """The bundle with other names of its classes."""
    manifest = json.dumps({**bundle.manifest, "classes": classes}).encode()
    return store_files(folder / "x.edgesparse", {**all_files(bundle), "manifest.json": manifest})


@pytest.mark.parametrize("text", [*SYNTAX, *FORMULAS[:4]])
def test_what_is_syntax_elsewhere_is_data_in_every_file(
    text: str, tmp_path: Path, shared_bundle: Bundle
) -> None:
    opened = with_classes(tmp_path, shared_bundle, [text, "other"])
    assert open_bundle(opened.path).classes[0] == text
    documents = list(yaml.safe_load_all(make_kserve(opened, "registry.example/x:1")))
    assert [d["kind"] for d in documents] == ["InferenceService"]
    assert label_lines(opened.classes).splitlines() == [text, "other"]
    container = make_containerfile(opened)
    instructions = [line.split()[0] for line in container.splitlines() if line and line[0] not in "# "]
    assert instructions == ["FROM", "COPY", "RUN", "COPY", "USER", "EXPOSE", "ENTRYPOINT"]


@pytest.mark.parametrize("kind", HOSTILE)
def test_labels_are_one_line_each(kind: str) -> None:
    with pytest.raises(InputError, match="one line"):
        label_lines((HOSTILE[kind], "other"))


@pytest.mark.parametrize("text", [*HOSTILE.values(), *SYNTAX, *FORMULAS])
def test_quoting_gives_the_same_text_back(text: str) -> None:
    if "\ud800" not in text:
        assert yaml.safe_load(f"a: {quote_yaml(text)}") == {"a": text}
    assert json.loads(quote_yaml(text)) == text
    quoted = quote_pbtxt(text) if "\ud800" not in text else '""'
    assert quoted.isascii() and quoted.isprintable()
    assert unquote_pbtxt(quoted) == (text if "\ud800" not in text else "")


@pytest.mark.parametrize("text", [*HOSTILE.values(), *SYNTAX, *FORMULAS])
def test_nothing_moves_the_cursor(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    print_table(["name", text], [[text, 1]])
    print_fields({text: text})
    shown = capsys.readouterr().out
    assert len(shown.splitlines()) == 3
    assert all(line.isprintable() for line in shown.split("\n"))
    assert escape_terminal(text).isprintable()


@pytest.mark.parametrize("text", [*HOSTILE.values(), *SYNTAX, *FORMULAS])
def test_a_cell_is_one_cell_and_no_formula(text: str) -> None:
    stream = io.StringIO()
    csv.writer(stream).writerow([escape_csv_cell(text), "next"])
    stream.getvalue().encode("utf-8")
    (row,) = csv.reader(io.StringIO(stream.getvalue(), newline=""))
    assert row[1] == "next"
    assert row[0].lstrip()[:1] not in tuple("=+-@\uff1d\uff0b\uff0d\uff20")


@pytest.mark.parametrize("label", ["-1", "+1", "-0.5", "1e3", "-inf", "normal", ""])
def test_numbers_and_plain_names_stay(label: str) -> None:
    assert escape_csv_cell(label) == label
