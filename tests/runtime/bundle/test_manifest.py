"""A manifest with a field of another kind: one line that names it, or a verb that does not mind."""

from __future__ import annotations

import contextlib
import copy
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from edgesparse_export.quantize.bundle import quantize_bundle
from edgesparse_runtime import onnx_model
from edgesparse_runtime.bundle.manifest import manifest_schema, parse_manifest
from edgesparse_runtime.bundle.read import Bundle, all_files, open_bundle
from edgesparse_runtime.bundle.schema_check import find_mismatch
from edgesparse_runtime.cli.checking.inspect import _fields
from edgesparse_runtime.data.series_set import SeriesSet
from edgesparse_runtime.errors import BundleError, EdgeSparseError
from edgesparse_runtime.evaluation.verify import verify
from edgesparse_runtime.measure.job import Job
from edgesparse_runtime.measure.worker import measure
from edgesparse_runtime.model_check.check import check_model
from edgesparse_runtime.session import Session

VALUES: tuple[Any, ...] = (None, 7, -1, "x", True, [], {}, [7], {"x": 7})
GONE = object()


def places(value: object, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every field, the settings of the training left out: nothing reads them."""
    items: Any = value.items() if isinstance(value, dict) else ()
    if isinstance(value, list) and value:
        items = [(0, value[0])]
    for key, item in items:
        if key not in ("config", "ranking", "recipe", "parity", "temperature"):
            yield (*path, key)
            yield from places(item, (*path, key))


def changed(manifest: dict[str, Any], path: tuple[Any, ...], value: object) -> dict[str, Any]:
    made = copy.deepcopy(manifest)
    inner: Any = made
    for key in path[:-1]:
        inner = inner[key]
    if value is GONE:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return made


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("attention",), 7, "field `attention` must be an object; got 7"),
        (("attention", "layers"), GONE, "field `attention.layers` must be there; it is missing"),
        (("compute",), None, "field `compute` must be an object; got null"),
        (("compute", "model_share"), None, "field `compute.model_share` must be a number; got null"),
        (("metrics",), [], "field `metrics` must be an object; got a list"),
        (("metrics", "training"), {}, "field `metrics.training.name` must be there"),
        (("parameters",), "x", "field `parameters` must be an integer; got 'x'"),
        (("training",), 7, "field `training` must be an object; got 7"),
        (("channels", 0, "unit"), 7, "field `channels[0].unit` must be a string or null; got 7"),
        (("models", "int8", "report", "flipped"), 7, "field `models.int8.report.flipped` must be"),
    ],
)
def test_the_field_is_named(shared_bundle: Bundle, path: tuple[Any, ...], value: object, words: str) -> None:
    content = json.dumps(changed(shared_bundle.manifest, path, value)).encode()
    with pytest.raises(BundleError) as caught:
        parse_manifest(content, Path("x.edgesparse"))
    assert words in str(caught.value)
    assert str(caught.value).startswith("x.edgesparse: manifest.json: ")


def test_every_field_of_every_kind_is_refused_as_the_published_schema_refuses_it(
    shared_bundle: Bundle,
) -> None:
    schema = manifest_schema()
    published = jsonschema.Draft202012Validator(schema)
    tried = refused = 0
    for path in places(shared_bundle.manifest):
        for value in (*VALUES, GONE):
            made = changed(shared_bundle.manifest, path, value)
            is_wrong = find_mismatch(made, schema, schema) is not None
            assert is_wrong == (not published.is_valid(made)), (path, value)
            tried, refused = tried + 1, refused + is_wrong
    assert tried > 500
    assert refused > 300


def test_what_is_opened_meets_no_verb_with_a_bug(
    tmp_path: Path, shared_bundle: Bundle, series: SeriesSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A field at a time: refused when the bundle is opened, or every verb runs or says why not."""
    # The model files stay as they are: each is checked once, not with each manifest.
    monkeypatch.setattr(onnx_model, "check_model", cache(check_model))
    folder = tmp_path / "x.edgesparse"
    folder.mkdir()
    files = all_files(shared_bundle)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    few = SeriesSet(series.series[:2], series.channels, None if series.labels is None else series.labels[:2])
    opened_anyway = 0
    for path in places(shared_bundle.manifest):
        for value in (*VALUES, GONE):
            made = changed(shared_bundle.manifest, path, value)
            if made == shared_bundle.manifest:
                continue
            (folder / "manifest.json").write_text(json.dumps(made))
            try:
                bundle = open_bundle(folder)
            except BundleError:
                continue
            opened_anyway += 1
            _fields(bundle)
            if path[0] not in ("input", "attention", "models", "classes", "channels", "task", "dense"):
                continue
            if value not in (None, 7, GONE) or path[:2] == ("channels", 1):
                continue
            # Anything else than one of our own errors is the bug that this looks for.
            with contextlib.suppress(EdgeSparseError):
                Session(bundle, precision="float32", threads=1).predict(few)
            # An eighth is enough for the verbs that take long.
            if opened_anyway % 8:
                continue
            with contextlib.suppress(EdgeSparseError):
                verify(bundle, threads=1)
                measure(Job(str(folder), precision="float32", threads=1, seconds=0.001))
                quantize_bundle(bundle, data=few, max_drop=1.0)
            # Quantizing wrote the bundle anew.
            for name, content in files.items():
                (folder / name).write_bytes(content)
    assert opened_anyway > 200
