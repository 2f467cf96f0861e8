"""The device side needs numpy and onnxruntime, nothing else, and says so."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

from tests.support.paths import ROOT
from tests.support.processes import run

RUNTIME = ROOT / "runtime" / "edgesparse_runtime"
BLOCKED = (
    "torch",
    "onnx",
    "onnxscript",
    "typer",
    "rich",
    "yaml",
    "safetensors",
    "sktime",
    "pyarrow",
    "pandas",
    "starlette",
    "uvicorn",
    "prometheus_client",
    "cryptography",
    "ray",
    "asyncua",
)
# What the extra `serve` brings is imported here and by the verb alone.
SERVER = {f"edgesparse_runtime.serving.{name}" for name in ("http.connection", "metrics", "routes", "server")}
SERVER |= {"edgesparse_runtime.deploying.ray_serve"}
SCRIPT = """
import importlib, pkgutil, sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {blocked}:
            raise ModuleNotFoundError(name, name=name)
sys.meta_path.insert(0, Refuse())
import edgesparse_runtime
for module in pkgutil.walk_packages(edgesparse_runtime.__path__, "edgesparse_runtime."):
    # The native library lies in the package too and is no Python module.
    name = module.name
    if not name.startswith(("edgesparse_runtime.cli.", "edgesparse_runtime.edgesparse_kernels", *{server})):
        importlib.import_module(name)
print("imported")
"""


def test_every_runtime_module_imports_without_the_extras() -> None:
    result = run(sys.executable, "-c", SCRIPT.format(blocked=set(BLOCKED), server=SERVER))
    assert result.stdout == "imported\n", result.stderr


def test_the_command_line_names_its_extra() -> None:
    script = SCRIPT.format(blocked={"typer"}, server=SERVER).split("import edgesparse_runtime")[0]
    result = run(sys.executable, "-c", script + "from edgesparse_runtime.cli import main; main()")
    assert result.returncode == 4
    assert result.stderr.strip() == (
        "edgesparse: error: The command line needs typer. Install with: pip install 'edgesparse[cli]'"
    )


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize(
    ("folder", "may_not"),
    [
        (RUNTIME, {"torch", "onnx"}),
        (ROOT / "edgesparse", {"edgesparse_export", "onnx", "onnxscript"}),
    ],
)
def test_arrows_run_one_way(folder: Path, may_not: set[str]) -> None:
    for path in folder.rglob("*.py"):
        assert not imported(path) & may_not, path


def test_only_the_verbs_that_train_or_export_reach_for_those_parts() -> None:
    ours = {"edgesparse", "edgesparse_export"}
    reaching = {p.name for p in RUNTIME.rglob("*.py") if imported(p) & ours}
    assert reaching == {
        "train.py",
        "export.py",
        "poc.py",
        "quantize.py",
        "quickstart.py",
        "breakeven.py",
        # `--mode full` trains.
        "update.py",
    }


def test_telemetry_is_off_before_onnxruntime_loads() -> None:
    script = "import edgesparse_runtime, os; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    assert run(sys.executable, "-c", script).stdout == "1\n"


def test_public_names_exist() -> None:
    script = "import edgesparse_runtime as r; print([n for n in r.__all__ if not hasattr(r, n)])"
    assert run(sys.executable, "-c", script).stdout == "[]\n"


def test_what_a_device_rarely_needs_loads_when_it_is_used() -> None:
    script = """
import sys
import edgesparse_runtime
rooms = "data.readers evaluation.verify evaluation.evaluate measure.profile measure.compare stream"
for room in rooms.split():
    assert f"edgesparse_runtime.{room}" not in sys.modules, room
from edgesparse_runtime import compare, evaluate, profile, stream, stream_scores, verify
print([f.__name__ for f in (verify, evaluate, profile, compare, stream_scores, stream)])
"""
    names = ["verify", "evaluate", "profile", "compare", "stream_scores", "edgesparse_runtime.stream"]
    assert run(sys.executable, "-c", script).stdout == f"{names}\n"


def test_an_unknown_name_is_no_attribute() -> None:
    script = "import edgesparse_runtime as r; print(hasattr(r, 'nothing'))"
    assert run(sys.executable, "-c", script).stdout == "False\n"
