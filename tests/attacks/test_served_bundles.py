"""Bundles that change, or are not what they seem, between their check and their use in a server."""

from __future__ import annotations

import json
import shutil
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgesparse_runtime.bundle.read import Bundle, open_bundle
from edgesparse_runtime.bundle.write import rewrite_bundle
from edgesparse_runtime.errors import BundleError
from edgesparse_runtime.serving import registry as registry_module
from edgesparse_runtime.serving import served_model
from edgesparse_runtime.serving.addresses import Address
from edgesparse_runtime.serving.registry import Registry
from edgesparse_runtime.serving.sandbox import rehearse
from edgesparse_runtime.serving.served_model import ServedModel, load
from edgesparse_runtime.serving.settings import Settings

SETTINGS = Settings(precision="float32", threads=1)


def test_what_was_rehearsed_is_what_is_loaded(
    shared_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An attacker exchanges the bundle when the rehearsal's process has ended."""
    path = tmp_path / "pump.edgesparse"
    shutil.copytree(shared_bundle.path, path)
    registry = Registry([Address("pump", "1", path)], SETTINGS)
    before = registry.models()[0]

    cards = []

    def rehearse_and_exchange(address: Address, settings: Settings) -> str:
        seen = rehearse(address, settings)
        # Each exchange is new; the one before it was rehearsed by now.
        cards.append(b"never rehearsed %d" % len(cards))
        rewrite_bundle(open_bundle(address.path), {"card.md": cards[-1]}, {})
        return seen

    rewrite_bundle(open_bundle(path), {"card.md": b"to be rehearsed"}, {})
    with monkeypatch.context() as patched:
        patched.setattr(registry_module, "rehearse", rehearse_and_exchange)
        registry.reload_changed()
        registry.reload_changed()
    assert registry.models() == [before]
    # What stands there now is rehearsed in its turn.
    registry.reload_changed()
    registry.reload_changed()
    assert registry.models()[0].bundle.read("card.md") == cards[-1]


def test_a_bundle_of_another_hash_is_not_loaded(shared_bundle: Bundle) -> None:
    address = Address("pump", "1", Path(shared_bundle.path))
    with pytest.raises(BundleError, match="must not change between its rehearsal and its loading"):
        load(address, SETTINGS, rehearsed="0" * 64)


def test_a_reload_without_a_free_descriptor_is_tried_again(
    shared_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "pump.edgesparse"
    shutil.copytree(shared_bundle.path, path)
    settings = replace(SETTINGS, rehearse=False)
    registry = Registry([Address("pump", "1", path)], settings)
    rewrite_bundle(open_bundle(path), {"card.md": b"new"}, {})

    def fail(*arguments: object) -> ServedModel:
        raise OSError(24, "Too many open files")

    with monkeypatch.context() as patched:
        patched.setattr(registry_module, "load_any", fail)
        for _ in range(2):
            with pytest.raises(OSError, match="Too many open files"):
                registry.reload_changed()
    registry.reload_changed()
    assert registry.models()[0].bundle.read("card.md") == b"new"


@pytest.mark.parametrize("cause", ["it cannot be read", "it is gone"])
def test_a_bundle_that_fails_does_not_keep_others_from_being_reloaded(
    cause: str, shared_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [tmp_path / f"{name}.edgesparse" for name in ("first", "second")]
    for path in paths:
        shutil.copytree(shared_bundle.path, path)
    settings = replace(SETTINGS, rehearse=False)
    registry = Registry([Address(path.stem, "1", path) for path in paths], settings)
    for path in paths:
        rewrite_bundle(open_bundle(path), {"card.md": b"new"}, {})
    if cause == "it is gone":
        shutil.rmtree(paths[0])

    def load_second(address: Address, *arguments: Any) -> ServedModel:
        if address.name == "first" and cause != "it is gone":
            raise OSError(5, "Input/output error")
        return load(address, *arguments)

    monkeypatch.setattr(registry_module, "load_any", load_second)
    for _ in range(2):
        with suppress(OSError):
            registry.reload_changed()
    first, second = registry.models()
    assert second.bundle.read("card.md") == b"new"
    assert first.bundle_hash == shared_bundle.sha256


class Other:
    """A session whose scores are of another type."""

    def __init__(self, session: Any, dtype: type) -> None:
        self._session, self._dtype = session, dtype

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def predict(self, *arguments: Any, **options: Any) -> Any:
        return self._session.predict(*arguments, **options).astype(self._dtype)


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_scores_that_can_be_float32_are(shared_bundle: Bundle, dtype: type) -> None:
    model = load(Address("pump", "1", Path(shared_bundle.path)), SETTINGS)
    other = replace(model, session=Other(model.session, dtype))  # type: ignore[arg-type]
    assert other.scores(np.zeros((1, 2, 64), np.float32)).dtype == np.float32


def test_other_scores_are_refused_when_loaded(shared_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    make = served_model.Session
    monkeypatch.setattr(served_model, "Session", lambda *a, **k: Other(make(*a, **k), np.int64))
    monkeypatch.setattr(served_model, "check_scores", lambda session: type("Check", (), {"holds": True}))
    with pytest.raises(BundleError, match="must output `scores` of type float32; it outputs int64"):
        load(Address("pump", "1", Path(shared_bundle.path)), SETTINGS)


def test_metadata_of_any_class_can_be_written(shared_bundle: Bundle) -> None:
    """Names are data; an answer is JSON in ASCII."""
    routes = pytest.importorskip("edgesparse_runtime.serving.routes")
    content = routes._json({"classes": ["\ud800", "\u202e", "\x1b[2J", '"\n']}).body
    assert json.loads(content)["classes"] == ["\ud800", "\u202e", "\x1b[2J", '"\n']
    assert content.isascii()
