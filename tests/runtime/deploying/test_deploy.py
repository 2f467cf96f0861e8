"""What `edgesparse deploy` writes, held against what the engines' own definitions say."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnxruntime
import pytest
import yaml
from google.protobuf import text_format

from edgesparse_runtime.bundle.read import Bundle, all_files, open_bundle
from edgesparse_runtime.bundle.write import rewrite_bundle, store_files
from edgesparse_runtime.cli import main
from edgesparse_runtime.cli.running.deploy import TARGETS
from edgesparse_runtime.deploying.container import make_containerfile
from edgesparse_runtime.deploying.kserve import make_kserve
from edgesparse_runtime.deploying.triton import write_triton_repository
from edgesparse_runtime.engine import LIBRARY_NAME
from edgesparse_runtime.errors import InputError
from edgesparse_runtime.model_check.check import check_model
from edgesparse_runtime.session import Session
from tests.support.running import ROOT


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
    ).folder
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
    written = write_triton_repository(shared_bundle, tmp_path, precision="int8", version=2, library=False)
    model = written.folder
    assert written.versions == (1, 2)
    config = parse(model)
    assert config.max_batch_size == 1
    assert config.version_policy.WhichOneof("policy_choice") == "all"
    assert not config.HasField("dynamic_batching")
    assert not config.HasField("model_operations")
    assert sorted(p.name for p in model.iterdir()) == ["1", "2", "config.pbtxt", "labels.txt"]
    # What was checked, written anew, is what Triton opens.
    checked = check_model(shared_bundle.read("model.int8.onnx"), "model.int8.onnx")
    assert (model / "2" / "model.onnx").read_bytes() == checked.content
    assert [p.name for p in tmp_path.iterdir()] == ["tiny"]
    with pytest.raises(InputError, match="`version` must be at least 1"):
        write_triton_repository(shared_bundle, tmp_path, version=0)


def copied_to(bundle: Bundle, path: Path) -> Bundle:
    """The bundle under another file name."""
    shutil.copytree(bundle.path, path)
    return open_bundle(path)


def test_a_further_version_leaves_the_earlier_ones_as_they_were(
    tmp_path: Path, shared_bundle: Bundle, dense_bundle: Bundle
) -> None:
    """Batch, threads and the library's path are shared by all versions of a model."""
    write_triton_repository(
        shared_bundle, tmp_path, precision="float32", seen_at="/models", max_batch=4, threads=3
    )
    written = write_triton_repository(shared_bundle, tmp_path, precision="float32", version=2)
    config = parse(written.folder)
    assert list(config.model_operations.op_library_filename) == [f"/models/tiny/{LIBRARY_NAME}"]
    assert written.seen_at == "/models"
    assert config.max_batch_size == 4
    assert config.parameters["intra_op_thread_count"].string_value == "3"
    with pytest.raises(InputError, match=r"`--no-library` must be left out: version 1, 2 of tiny"):
        write_triton_repository(shared_bundle, tmp_path, version=3, library=False)
    # int8 takes windows one by one, and goes on doing so beside a float32 model.
    write_triton_repository(shared_bundle, tmp_path, precision="int8", version=3)
    written = write_triton_repository(shared_bundle, tmp_path, precision="float32", version=4, max_batch=16)
    assert (parse(written.folder).max_batch_size, written.versions) == (1, (1, 2, 3, 4))
    # A dense model needs no library; the sparse ones beside it do.
    dense = copied_to(dense_bundle, tmp_path / "dense" / "tiny.edgesparse")
    written = write_triton_repository(dense, tmp_path, version=5)
    assert list(parse(written.folder).model_operations.op_library_filename) == [
        f"/models/tiny/{LIBRARY_NAME}"
    ]


def test_a_version_that_does_not_fit_the_others_is_refused(tmp_path: Path, shared_bundle: Bundle) -> None:
    models = tmp_path / "models"
    model = write_triton_repository(shared_bundle, models, precision="float32").folder
    before = {p.name: p.read_bytes() for p in model.iterdir() if p.is_file()}
    copied = copied_to(shared_bundle, tmp_path / shared_bundle.path.name)
    other = rewrite_bundle(copied, {}, {"classes": ["slow", "fast"]})
    with pytest.raises(
        InputError, match=r"classes must be as in version 1 of tiny \(fast, slow\); got slow, fast"
    ):
        write_triton_repository(other, models, version=2)
    config = (model / "config.pbtxt").read_text()
    for was, now, what in (("[ 2, -1 ]", "[ 1, -1 ]", "input"), ("[ 2 ] label", "[ 3 ] label", "output")):
        (model / "config.pbtxt").write_text(config.replace(was, now))
        with pytest.raises(InputError, match=f"The {what} must be as in version 1 of tiny"):
            write_triton_repository(shared_bundle, models, version=2)
    (model / "config.pbtxt").write_text("platform: 'tensorrt_plan'")
    with pytest.raises(InputError, match="must be what `edgesparse deploy triton` wrote"):
        write_triton_repository(shared_bundle, models, version=2)
    (model / "config.pbtxt").write_text(config)
    assert {p.name: p.read_bytes() for p in model.iterdir() if p.is_file()} == before
    assert not (model / "2").exists()


def test_a_replaced_version_is_said(
    tmp_path: Path,
    shared_bundle: Bundle,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    command = ("triton", shared_bundle.path, "-o", tmp_path / "m", "--json")
    float32, int8 = ("--precision", "float32"), ("--precision", "int8")
    for more, replaced in ((float32, None), (int8, "other"), (int8, "same")):
        assert deploy(monkeypatch, *command, *more) == 0
        shown = capsys.readouterr()
        assert json.loads(shown.out)["replaced"] == replaced
        assert ("was replaced" in shown.err) == (replaced is not None)


def test_nothing_is_written_into_a_bundle(
    tmp_path: Path,
    shared_bundle: Bundle,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    own = tmp_path / "pump.edgesparse"
    shutil.copytree(shared_bundle.path, own)
    plain = tmp_path / "pump"
    shutil.copytree(shared_bundle.path, plain)
    archive = store_files(tmp_path / "one.edgesparse", all_files(shared_bundle), archive=True).path
    packed = archive.read_bytes()
    image = ("--image", "registry.example/pump:1")
    for arguments in (
        ("triton", own, "-o", own),
        ("triton", own, "-o", own / "models"),
        ("triton", own, "-o", plain),
        # The model's own folder would take the place of the bundle of that name.
        ("triton", plain, "-o", tmp_path),
        ("container", own, "-o", own / "Containerfile"),
        ("container", own, "-o", archive),
        ("kserve", own, *image, "-o", own / "pump.yaml"),
        ("kserve", own, *image, "-o", plain / "pump.yaml"),
    ):
        assert deploy(monkeypatch, *arguments) == 2
        assert "`--out` must not be a bundle or lie in one" in capsys.readouterr().err
    open_bundle(own)
    open_bundle(plain)
    assert archive.read_bytes() == packed


def test_a_canary_gets_a_share_of_the_traffic(shared_bundle: Bundle) -> None:
    image = "registry.example/tiny:2"
    found = yaml.safe_load(make_kserve(shared_bundle, image, canary=10))
    assert found["spec"]["predictor"].pop("canaryTrafficPercent") == 10
    assert found == yaml.safe_load(make_kserve(shared_bundle, image))
    with pytest.raises(InputError, match="`--canary` must be 0 to 100 percent; got 101"):
        make_kserve(shared_bundle, image, canary=101)


def test_container_and_kserve_agree(shared_bundle: Bundle) -> None:
    container = make_containerfile(shared_bundle)
    entry = container.split("ENTRYPOINT ")[1].replace("\\\n", "")
    arguments = json.loads(entry)
    assert arguments[:3] == ["edgesparse", "serve", "tiny=/models/tiny.edgesparse"]
    manifest = yaml.safe_load(make_kserve(shared_bundle, "registry.example/tiny:1"))
    (image,) = manifest["spec"]["predictor"]["containers"]
    assert image["image"] == "registry.example/tiny:1"
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
    """docs/guides/deploy.md shows both files; only names and hashes of the bundle may differ."""
    page = (ROOT / "docs" / "guides" / "deploy.md").read_text()
    for target, options in (("container", ()), ("kserve", ("--image", "registry.example/tiny:latest"))):
        assert deploy(monkeypatch, target, shared_bundle.path, *options) == 0
        shown = page.split(f"<!-- {target} -->\n```")[1].split("\n", 1)[1].split("```")[0]
        own = capsys.readouterr().out.replace("tiny", "pump")
        assert [_shape(x) for x in own.splitlines()] == [_shape(x) for x in shown.splitlines()]


def _shape(line: str) -> str:
    """The line without what belongs to one bundle."""
    import re

    return re.sub(r'"[0-9a-f]{64}"|"\d{4}-\d\d-\d\dT[\d:]+Z"', "#", line)


def test_bad_arguments_are_said_in_one_line(
    tmp_path: Path,
    shared_bundle: Bundle,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    a_file, models = tmp_path / "one.csv", tmp_path / "models"
    a_file.write_text("")
    image = ("--image", "registry.example/tiny:1")
    for arguments, message in (
        (["nowhere"], "must be given one of triton, ray, container, kserve; got nowhere"),
        (["triton"], "Use -o REPO"),
        (["triton", "-o", a_file], "`--out` must be a folder, or a new one; "),
        (["triton", "-o", a_file / "models"], "one.csv is a file"),
        (["triton", "-o", models, "--seen-at", "models"], "`--seen-at` must be an absolute path"),
        (["triton", "-o", models, "--seen-at", "/a\nb"], "`--seen-at` must be an absolute path"),
        (["triton", "-o", models, "--threads", "0"], "`--threads` must be at least 1; got 0"),
        (["triton", "-o", models, "--image", "x"], "`--image` has no effect on `deploy triton`"),
        (
            ["triton", "-o", models, "--replicas", "4"],
            "has no effect on `deploy triton`; use it with ray, kserve",
        ),
        (["container", "-o", tmp_path], "`--out` must be a file; "),
        (["container", "-o", tmp_path / "no" / "Containerfile"], "must be in a folder that exists"),
        (["container", "--precision", "int4"], "`precision` must be one that tiny.edgesparse holds"),
        (["container", "--version", "1"], "`--version` has no effect on `deploy container`"),
        (["container", "--no-library"], "`--no-library` has no effect on `deploy container`"),
        (["ray", "-o", models], "`--out` has no effect on `deploy ray`"),
        (["kserve"], "needs the image that serves the bundle. Use --image IMAGE"),
        (["kserve", *image, "--precision", "int8"], "`--precision` has no effect on `deploy kserve`"),
        (["kserve", *image, "--version", "9"], "`--version` has no effect on `deploy kserve`"),
        (["kserve", *image, "--seen-at", "/q"], "`--seen-at` has no effect on `deploy kserve`"),
        (["kserve", *image, "--replicas", "0"], "`replicas` must be 1 to `max_replicas`; got 0 and 4"),
        (["kserve", "--image", "a\nb: c"], "`--image` must be an image's name"),
        (["kserve", "--image", "a b"], "`--image` must be an image's name"),
        (["kserve", "--image", "a: b"], "`--image` must be an image's name"),
        (["ray", "--replicas", "3", "--max-replicas", "2"], "`replicas` must be 1 to `max_replicas`"),
    ):
        code = deploy(monkeypatch, arguments[0], shared_bundle.path, *arguments[1:])
        said = capsys.readouterr().err
        missing = "needs ray" in said
        assert code == (4 if missing else 2)
        assert missing or message in said
        assert len(said.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == [a_file]


def test_help_shows_each_target(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert deploy(monkeypatch, "--help") == 0
    shown = capsys.readouterr().out
    for target in TARGETS:
        assert f"Example: edgesparse deploy {target} " in shown


def test_options_reach_what_is_written(
    shared_bundle: Bundle, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--precision", "int8", "--threads", "3", "--max-batch", "2")
    assert deploy(monkeypatch, "container", shared_bundle.path, *options) == 0
    entry = capsys.readouterr().out.split("ENTRYPOINT ")[1].replace("\\\n", "")
    assert tuple(json.loads(entry)[-6:]) == options
    scale = ("--replicas", 6, "--max-replicas", 9)
    assert (
        deploy(
            monkeypatch,
            "kserve",
            shared_bundle.path,
            "--image",
            "h.example:5000/a/b_c@sha256:" + "0" * 64,
            *scale,
        )
        == 0
    )
    predictor = yaml.safe_load(capsys.readouterr().out)["spec"]["predictor"]
    assert (predictor["minReplicas"], predictor["maxReplicas"]) == (6, 9)


@pytest.mark.parametrize("name", ["a b", "$(id)", "a\nUSER 0", 'a"b', "-a", "a*"])
def test_a_file_name_that_a_container_file_would_split_is_refused(
    tmp_path: Path, shared_bundle: Bundle, name: str
) -> None:
    bundle = copied_to(shared_bundle, tmp_path / f"{name}.edgesparse")
    for make in (make_containerfile, lambda bundle: make_kserve(bundle, "tiny:1")):
        with pytest.raises(InputError, match="file name must be of letters, digits"):
            make(bundle)


def test_precision_must_be_in_the_bundle(
    dense_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments in (("container",), ("ray",), ("triton", "-o", tmp_path / "m")):
        assert (
            deploy(monkeypatch, arguments[0], dense_bundle.path, *arguments[1:], "--precision", "int8") == 2
        )
        assert "one that dense.edgesparse holds (float32); got int8" in capsys.readouterr().err
