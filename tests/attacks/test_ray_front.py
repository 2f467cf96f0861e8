"""The Ray application with a stand-in for Ray: what restricts the model restricts the front as well."""

from __future__ import annotations

import asyncio
import importlib
import shutil
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgesparse_runtime.bundle.names import SIGNATURE_NAME
from edgesparse_runtime.bundle.read import Bundle, all_files, open_bundle
from edgesparse_runtime.bundle.signature import make_key_pair, sign
from edgesparse_runtime.bundle.write import store_files
from edgesparse_runtime.errors import BundleError

pytest.importorskip("cryptography", reason="cryptography is not installed (pip install 'edgesparse[sign]')")
pytest.importorskip("starlette", reason="the extra `serve` is not installed")


class Bound:
    """A deployment with its arguments."""

    def __init__(self, kind: type, *arguments: Any) -> None:
        self.kind, self.arguments = kind, arguments


@pytest.fixture
def ray_serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    ray, serve, exceptions = (types.ModuleType(name) for name in ("ray", "ray.serve", "ray.exceptions"))

    def deployment(**options: Any) -> Any:
        return lambda kind: types.SimpleNamespace(bind=lambda *arguments: Bound(kind, *arguments))

    facts: dict[types.ModuleType, dict[str, Any]] = {
        ray: {"serve": serve, "exceptions": exceptions},
        serve: {"deployment": deployment, "Application": Bound},
        exceptions: {"RayError": type("RayError", (Exception,), {})},
    }
    for module, names in facts.items():
        for name, value in names.items():
            setattr(module, name, value)
        monkeypatch.setitem(sys.modules, module.__name__, module)
    name = "edgesparse_runtime.deploying.ray_serve"
    monkeypatch.delitem(sys.modules, name, raising=False)
    yield importlib.import_module(name)
    sys.modules.pop(name, None)


def test_every_process_requires_the_signature(ray_serve: Any, shared_bundle: Bundle, tmp_path: Path) -> None:
    private = tmp_path / "factory.pem"
    public = make_key_pair(private)
    path = tmp_path / "pump.edgesparse"
    shutil.copytree(shared_bundle.path, path)
    with pytest.raises(BundleError, match="sign"):
        ray_serve.make_application(str(path), trusted_keys=(str(public),))
    bundle = open_bundle(path)
    signed = {**all_files(bundle), SIGNATURE_NAME: sign(bundle.manifest_bytes, private)}
    store_files(path, signed)
    application = ray_serve.make_application(str(path), trusted_keys=(str(public),))
    model, *rest = application.arguments
    application.kind(None, *rest)
    model.kind(*model.arguments)
    # An unsigned bundle takes its place before the processes start.
    shutil.rmtree(path)
    shutil.copytree(shared_bundle.path, path)
    for process, arguments in ((application, [None, *rest]), (model, model.arguments)):
        with pytest.raises(BundleError, match="sign"):
            process.kind(*arguments)


@pytest.mark.parametrize(
    "headers", [{"host": "evil.example"}, {"host": "localhost", "origin": "http://evil.example"}]
)
def test_web_pages_do_not_get_through(ray_serve: Any, shared_bundle: Bundle, headers: dict[str, str]) -> None:
    from starlette.requests import Request

    application = ray_serve.make_application(str(shared_bundle.path))
    front = application.kind(None, *application.arguments[1:])

    def ask(given: dict[str, str]) -> int:
        raw = [(name.encode(), value.encode()) for name, value in given.items()]
        scope = {"type": "http", "method": "GET", "path": "/v2/models/model", "query_string": b""}
        scope |= {"headers": raw, "server": ("127.0.0.1", 8000), "scheme": "http"}
        return int(asyncio.run(front(Request(scope))).status_code)

    assert ask({"host": "localhost:8000"}) == 200
    assert ask(headers) == 403
