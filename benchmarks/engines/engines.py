"""What scores a bundle's golden windows: onnxruntime for Node and for the web, OpenVINO, tract."""

from __future__ import annotations

import base64
import importlib
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.inliner

from edgesparse_runtime.arrays import FloatArray
from edgesparse_runtime.bundle.read import Bundle
from tests.support.paths import ROOT

HERE = Path(__file__).parent
# Of npm: the versions that were tried.
NPM = {"onnxruntime-node": "1.30.0", "onnxruntime-web": "1.30.0"}
SERVE = ROOT / "examples" / "browser" / "serve.py"
SECONDS = 240
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)

Answer = tuple[str, FloatArray]


class Missing(Exception):
    """The engine is not installed."""


def install_npm(folder: Path) -> Path:
    """The npm packages in a folder's node_modules, without scripts of theirs.

    Raises:
        Missing: there is no npm, or it fails.
    """
    if shutil.which("npm") is None or shutil.which("node") is None:
        raise Missing("npm and node are not installed")
    packages = folder / "node_modules"
    if not all((packages / name / "package.json").is_file() for name in NPM):
        folder.mkdir(parents=True, exist_ok=True)
        names = [f"{name}@{number}" for name, number in NPM.items()]
        command = [
            "npm",
            "install",
            "--ignore-scripts",
            "--no-audit",
            "--no-fund",
            "--prefix",
            str(folder),
            *names,
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise Missing(f"npm install failed: {(done.stderr.strip() or 'no reason').splitlines()[-1]}")
    return packages


def run_node(bundle: Bundle, precision: str, packages: Path) -> Answer:
    """onnxruntime-node, no custom operator registered."""
    windows = bundle.golden()["windows"]
    given = {
        "model": str(bundle.model_path(precision)),
        "shape": windows.shape,
        "windows": base64.b64encode(windows.astype("<f4").tobytes()).decode(),
    }
    command = ["node", str(HERE / "node.mjs"), str(packages)]
    done = subprocess.run(command, input=json.dumps(given), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(next((x for x in done.stderr.splitlines() if "Error" in x), "no answer"))
    found = json.loads(done.stdout)
    return f"onnxruntime-node {found['version']}", to_scores(found["scores"], windows)


def run_web(bundle: Bundle, precision: str, packages: Path) -> Answer:
    """onnxruntime-web (WebAssembly) in headless Chromium, by examples/browser."""
    chromium = shutil.which("chromium")
    if chromium is None:
        raise Missing("chromium is not installed")
    serve = [sys.executable, str(SERVE), str(bundle.path), "--precision", precision, "--port", "0", "--once"]
    with (
        tempfile.TemporaryDirectory() as profile,
        subprocess.Popen([*serve, "--packages", str(packages)], stdout=subprocess.PIPE, text=True) as server,
    ):
        assert server.stdout is not None
        address = server.stdout.readline().strip()
        browser = subprocess.Popen(
            [chromium, *FLAGS, f"--user-data-dir={profile}", address],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            found = json.loads(server.communicate(timeout=SECONDS)[0])
        finally:
            server.kill()
            browser.terminate()
            browser.wait(30)
    if "error" in found:
        raise RuntimeError(found["error"])
    scores = to_scores(found["scores"], bundle.golden()["windows"])
    return f"onnxruntime-web {found['version']}", scores


def run_openvino(bundle: Bundle, precision: str, packages: Path) -> Answer:
    """OpenVINO, in float32 where it would choose bfloat16; it has no functions, so they are inlined."""
    openvino = installed("openvino")
    windows = bundle.golden()["windows"]
    with tempfile.TemporaryDirectory() as folder:
        path = inlined(bundle, precision, Path(folder))
        compiled = openvino.Core().compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        scores = compiled({"window": windows})["scores"]
    return f"openvino {version('openvino')}", np.asarray(scores)


def run_tract(bundle: Bundle, precision: str, packages: Path) -> Answer:
    """tract, functions inlined as for OpenVINO."""
    tract = installed("tract")
    windows = bundle.golden()["windows"]
    with tempfile.TemporaryDirectory() as folder:
        model = tract.onnx().load(inlined(bundle, precision, Path(folder)))
        model.set_input_fact(0, f"{','.join(map(str, windows.shape))},f32")
        model.analyse()
        scores = model.into_model().into_runnable().run([windows])[0].to_numpy()
    return f"tract {version('tract')}", np.asarray(scores)


def inlined(bundle: Bundle, precision: str, folder: Path) -> Path:
    """The model without functions, for windows of the golden ones' shape, with the scores alone."""
    model = onnx.inliner.inline_local_functions(onnx.load(bundle.model_path(precision)))
    graph = model.graph
    del graph.value_info[:], graph.output[1:], graph.input[1:]
    graph.output[0].type.tensor_type.ClearField("shape")
    for dim, size in zip(
        graph.input[0].type.tensor_type.shape.dim, bundle.golden()["windows"].shape, strict=True
    ):
        dim.dim_value = size
    path = folder / "model.onnx"
    onnx.save(model, path)
    return path


def installed(package: str) -> Any:
    """The package.

    Raises:
        Missing: it is not installed.
    """
    try:
        return importlib.import_module(package)
    except ImportError:
        raise Missing(f"{package} is not installed") from None


def to_scores(flat: list[float], windows: FloatArray) -> FloatArray:
    """[n, K] from numbers in a row."""
    return np.asarray(flat, dtype=np.float32).reshape(len(windows), -1)


ENGINES: dict[str, Callable[[Bundle, str, Path], Answer]] = {
    "onnxruntime-node": run_node,
    "onnxruntime-web": run_web,
    "OpenVINO": run_openvino,
    "tract": run_tract,
}
