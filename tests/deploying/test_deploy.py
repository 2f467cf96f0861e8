"""What `edgesparse deploy` writes, held against what the engines' own definitions say."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnxruntime
import pytest
import yaml
from google.protobuf import text_format

from edgesparse_runtime.bundle import Bundle
from edgesparse_runtime.cli import main
from edgesparse_runtime.deploying.container import make_containerfile, make_kserve
from edgesparse_runtime.deploying.triton import write_triton_repository
from edgesparse_runtime.errors import InputError
from edgesparse_runtime.library import LIBRARY_NAME
from edgesparse_runtime.session import Session
from tests.serving.running import ROOT


def load_triton_schema() -> ModuleType:
    """Triton's own `model_config.proto`, as its client ships it; loaded alone, without gRPC."""
    package = importlib.util.find_spec("tritonclient")
    if package is None or package.submodule_search_locations is None:
        pytest.skip("tritonclient is not installed")
    path = Path(package.submodule_search_locations[0]) / "grpc" / "model_config_pb2.py"
    spec = importlib.util.spec_from_file_location("model_config_pb2", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def parse(model: Path) -> Any:
    config = load_triton_schema().ModelConfig()
    text_format.Parse((model / "config.pbtxt").read_text(), config)
    return config


def test_the_configuration_fits_triton_s_schema_and_the_model(tmp_path: Path, shared_bundle: Bundle) -> None:
    model = write_triton_repository(
        shared_bundle, tmp_path / "models", precision="float32", seen_at="/models", max_batch=4
    )
    config = parse(model)
    assert config.name == model.name == "tiny"
    assert config.max_batch_size == 4
    assert [(i.name, list(i.dims)) for i in config.input] == [("window", [2, -1])]
    assert [(o.name, list(o.dims)) for o in config.output] == [("scores", [2])]
    assert config.dynamic_batching.max_queue_delay_microseconds == 1000
    assert list(config.model_operations.op_library_filename) == [f"/models/tiny/{LIBRARY_NAME}"]
    assert (model / "labels.txt").read_text() == "fast\nslow\n"

    # What Triton's backend does with it: a session of plain onnxruntime, the library registered by its path.
    options = onnxruntime.SessionOptions()
    options.register_custom_ops_library(str(model / LIBRARY_NAME))
    session = onnxruntime.InferenceSession(str(model / "1" / "model.onnx"), options)
    assert [i.name for i in session.get_inputs()] == [i.name for i in config.input]
    window = np.random.default_rng(0).standard_normal((3, 2, 300)).astype(np.float32)
    (scores,) = session.run(["scores"], {"window": window})
    expected = Session(shared_bundle, precision="float32", threads=1).predict(window)
    np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-5)


def test_int8_is_not_batched_and_versions_stand_side_by_side(tmp_path: Path, shared_bundle: Bundle) -> None:
    write_triton_repository(shared_bundle, tmp_path, precision="float32", version=1, library=False)
    model = write_triton_repository(shared_bundle, tmp_path, precision="int8", version=2, library=False)
    config = parse(model)
    assert config.max_batch_size == 1
    assert not config.HasField("dynamic_batching")
    assert not config.HasField("model_operations")
    assert sorted(p.name for p in model.iterdir()) == ["1", "2", "config.pbtxt", "labels.txt"]
    assert (model / "2" / "model.onnx").read_bytes() == shared_bundle.read("model.int8.onnx")
    assert [p.name for p in tmp_path.iterdir()] == ["tiny"]
    with pytest.raises(InputError, match="`version` must be at least 1"):
        write_triton_repository(shared_bundle, tmp_path, version=0)


def test_container_and_kserve_agree(shared_bundle: Bundle) -> None:
    container = make_containerfile(shared_bundle)
    entry = container.split("ENTRYPOINT ")[1].replace("\\\n", "")
    arguments = json.loads(entry)
    assert arguments[:3] == ["edgesparse", "serve", "tiny=/models/tiny.edgesparse"]
    manifest = yaml.safe_load(make_kserve(shared_bundle, "registry.example/tiny:1"))
    (image,) = manifest["spec"]["predictor"]["containers"]
    port = image["ports"][0]["containerPort"]
    assert str(port) == arguments[arguments.index("--port") + 1]
    assert f"EXPOSE {port}" in container
    assert image["readinessProbe"]["httpGet"] == {"path": "/v2/health/ready", "port": port}
    # The token is where the server looks for it.
    mounts = {m["name"]: m["mountPath"] for m in image["volumeMounts"]}
    assert arguments[arguments.index("--token-file") + 1] == f"{mounts['token']}/token"
    assert {v["name"] for v in manifest["spec"]["predictor"]["volumes"]} == set(mounts)


def deploy(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """`edgesparse deploy ARGUMENTS` in this process: a start costs more than what it does."""
    monkeypatch.setattr(sys, "argv", ["edgesparse", "deploy", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_the_examples_in_docs_are_what_the_command_prints(
    shared_bundle: Bundle, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """docs/deploy.md shows both files; only names and hashes of the bundle may differ."""
    page = (ROOT / "docs" / "deploy.md").read_text()
    for target in ("container", "kserve"):
        assert deploy(monkeypatch, target, shared_bundle.path) == 0
        shown = page.split(f"<!-- {target} -->\n```")[1].split("\n", 1)[1].split("```")[0]
        own = capsys.readouterr().out.replace("tiny", "pump")
        assert [_shape(x) for x in own.splitlines()] == [_shape(x) for x in shown.splitlines()]


def _shape(line: str) -> str:
    """The line without what belongs to one bundle."""
    import re

    return re.sub(r'"[0-9a-f]{64}"|\d{4}-\d\d-\d\dT[\d:]+Z', "#", line)


def test_bad_arguments_are_said_in_one_line(
    shared_bundle: Bundle, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments, message in (
        (["nowhere"], "must be given one of triton, ray, container, kserve; got nowhere"),
        (["triton"], "Use -o REPO"),
        (["ray", "--replicas", "3", "--max-replicas", "2"], "`replicas` must be 1 to `max_replicas`"),
    ):
        code = deploy(monkeypatch, arguments[0], shared_bundle.path, *arguments[1:])
        said = capsys.readouterr().err
        missing = "needs ray" in said
        assert code == (4 if missing else 2)
        assert missing or message in said
        assert len(said.strip().splitlines()) == 1
