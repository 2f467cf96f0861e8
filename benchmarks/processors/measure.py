"""Times every case of a carried folder on every instruction set of this machine.

    python3 measure.py -o RESULT.json

`benchmarks.processors.write_folder` makes the folder, with this file in it. Needs numpy and onnxruntime;
rivals in OpenVINO run where openvino is installed. A process per instruction set, one thread each, calls
interleaved. Nothing of the package is imported: the operator library lies beside this file.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

# Best first; the scalar table is timed only where it is named.
ISAS = ("amx", "avx512vnni", "avxvnni", "avx2", "neon_dotprod", "neon")
OPENVINO = "openvino"
FOLDER = Path(__file__).resolve().parent
# Seconds that a burst of calls takes.
BURST = 0.02
FLAGS = ["avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "amx_bf16", "asimd", "asimddp", "i8mm"]
Run = Callable[[], Sequence[Any]]


def make_feeds(shapes: dict[str, list[Any]]) -> dict[str, Any]:
    """The inputs that a case names, the same everywhere."""
    draw = np.random.default_rng(0)
    made: dict[str, Any] = {}
    for name, (kind, what) in shapes.items():
        if kind == "normal":
            made[name] = draw.standard_normal(what, dtype=np.float32)
        elif kind == "walk":
            made[name] = draw.standard_normal(what).cumsum(-1).astype(np.float32)
        elif kind == "true":
            made[name] = np.ones(what, bool)
        else:
            made[name] = np.array([what], np.float32 if kind == "float" else np.int64)
    return made


def open_kernels(path: Path, feeds: dict[str, Any]) -> Run:
    """The model in onnxruntime with the operator library, which reads the pinned instruction set."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.register_custom_ops_library(str(FOLDER / "edgesparse_kernels.so"))
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = {i.name for i in session.get_inputs()}
    kept = {name: value for name, value in feeds.items() if name in names}
    return lambda: session.run(None, kept)


def open_openvino(path: Path, feeds: dict[str, Any], precision: str | None) -> Run:
    """The model in OpenVINO, in its default precision where none is named."""
    import openvino

    settings: dict[str, Any] = {"INFERENCE_NUM_THREADS": 1, "PERFORMANCE_HINT": "LATENCY"}
    if precision:
        settings["INFERENCE_PRECISION_HINT"] = precision
    request = openvino.Core().compile_model(str(path), "CPU", settings).create_infer_request()
    (window,) = feeds.values()
    return lambda: [np.asarray(request.infer({0: window})[0])]


def work(cpu: int | None) -> None:
    """Answers one line of JSON per line: `open`, `run` or `close`."""
    if cpu is not None:
        os.sched_setaffinity(0, {cpu})
    runs: dict[str, Run] = {}
    for line in sys.stdin:
        order = json.loads(line)
        if order["do"] == "open":
            path, feeds = FOLDER / order["file"], make_feeds(order["feeds"])
            is_rival = path.suffix == ".xml"
            run = open_openvino(path, feeds, order["precision"]) if is_rival else open_kernels(path, feeds)
            outputs = [np.ascontiguousarray(o) for o in run()]
            run()
            runs[order["name"]] = run
            answer: Any = hashlib.sha256(b"".join(o.tobytes() for o in outputs)).hexdigest()[:12]
            if order["file"] == "kernel_info.onnx":
                answer = str(outputs[0][0])
        elif order["do"] == "run":
            times = []
            for _ in range(order["calls"]):
                start = time.perf_counter()
                runs[order["name"]]()
                times.append(time.perf_counter() - start)
            answer = sorted(times)[len(times) // 2]
        else:
            runs.clear()
            answer = None
        print(json.dumps(answer), flush=True)


class Worker:
    """A process with one instruction set pinned, or OpenVINO's."""

    def __init__(self, isa: str, cpu: int | None) -> None:
        environment = os.environ | {
            "EDGESPARSE_ISA": isa,
            "OMP_NUM_THREADS": "1",
            "ORT_DISABLE_TELEMETRY": "1",
        }
        command = [sys.executable, str(Path(__file__).resolve()), "--worker"]
        command += [] if cpu is None else ["--cpu", str(cpu)]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        )

    def ask(self, **order: Any) -> Any:
        """The answer; RuntimeError where the process ended."""
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the process ended at {order.get('file', order.get('name'))}")
        return json.loads(line)

    def close(self) -> None:
        """Ends the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def start_workers(isas: Sequence[str], cpu: int | None) -> dict[str, Worker]:
    """A worker for each instruction set that this machine has; the others are named on stderr."""
    workers = {}
    for isa in isas:
        worker = Worker(isa, cpu)
        try:
            loaded = worker.ask(do="open", name="info", file="kernel_info.onnx", feeds={}, precision=None)
        except RuntimeError:
            loaded = None
        if loaded == isa:
            workers[isa] = worker
        else:
            print(f"not on this machine: {isa}", file=sys.stderr)
            worker.close()
    return workers


def time_case(case: dict[str, Any], workers: dict[str, Worker], seconds: float) -> dict[str, dict[str, Any]]:
    """Milliseconds by "ISA MODEL", interleaved; models without our kernels run in the first worker alone."""
    asked = []
    for model in case["models"]:
        owners = [OPENVINO] if model["file"].endswith(".xml") else [i for i in workers if i != OPENVINO]
        owners = owners if model["kernels"] else owners[:1]
        asked += [(isa, model) for isa in owners if isa in workers]
    found: dict[str, dict[str, Any]] = {}
    for isa, model in asked:
        digest = workers[isa].ask(do="open", feeds=case["feeds"], **model)
        found[f"{isa} {model['name']}"] = {"hash": digest}
    calls = {}
    for isa, model in asked:
        once = workers[isa].ask(do="run", name=model["name"], calls=2)
        calls[isa, model["name"]] = max(1, min(40, int(BURST / once)))
    times: dict[tuple[str, str], list[float]] = {key: [] for key in calls}
    end = time.perf_counter() + seconds * len(calls)
    rounds = 0
    while time.perf_counter() < end or rounds < 5:
        rounds += 1
        for (isa, name), count in calls.items():
            times[isa, name].append(1e3 * workers[isa].ask(do="run", name=name, calls=count))
    for (isa, name), measured in times.items():
        low, middle, high = (float(q) for q in np.percentile(measured, [25, 50, 75]))
        found[f"{isa} {name}"] |= {"ms": middle, "quartiles": [low, high], "rounds": rounds}
        print(f"{isa:12s} {name:42s} {middle:9.3f} ms [{low:.3f} {high:.3f}]", flush=True)
    for worker in workers.values():
        worker.ask(do="close")
    return found


def describe() -> dict[str, Any]:
    """Processor, system and versions."""
    facts: dict[str, str] = {}
    info = Path("/proc/cpuinfo")
    for line in info.read_text().splitlines() if info.exists() else []:
        name, _, value = line.partition(":")
        facts.setdefault(name.strip().lower(), value.strip())
    flags = set((facts.get("flags") or facts.get("features") or "").split())
    import onnxruntime

    versions = {"numpy": np.__version__, "onnxruntime": onnxruntime.__version__}
    try:
        import openvino

        versions["openvino"] = openvino.__version__
    except ImportError:
        pass
    return {
        "cpu": facts.get("model name") or facts.get("hardware") or platform.processor(),
        "cores": os.cpu_count(),
        "instruction_sets": [flag for flag in FLAGS if flag in flags],
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": versions,
    }


def main() -> int:
    """Measures, prints, and writes after every case, so that a stopped run leaves what it has."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("cases", nargs="*", help="beginnings of cases' names; default: all")
    parser.add_argument("-o", "--output", type=Path, default=Path("processor.json"))
    parser.add_argument("--isas", nargs="+", default=list(ISAS), help="default: all but scalar")
    parser.add_argument("--seconds", type=float, default=0.5, help="per model and instruction set")
    parser.add_argument("--cpu", type=int, help="the one processor core to run on")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.worker:
        work(chosen.cpu)
        return 0
    machine = describe()
    workers = start_workers(chosen.isas, chosen.cpu)
    if not workers:
        print(f"None of {', '.join(chosen.isas)} is on this machine.", file=sys.stderr)
        return 2
    if "openvino" in machine["versions"]:
        workers[OPENVINO] = Worker("", chosen.cpu)
    found: dict[str, dict[str, Any]] = {}
    result = {
        "machine": machine,
        "command": " ".join(["python3", "measure.py", *sys.argv[1:]]),
        "load_before": os.getloadavg(),
        "found": found,
    }
    for name, case in json.loads((FOLDER / "cases.json").read_text()).items():
        if chosen.cases and not name.startswith(tuple(chosen.cases)):
            continue
        found |= time_case(case, workers, chosen.seconds)
        chosen.output.write_text(json.dumps(result | {"load_after": os.getloadavg()}, indent=1) + "\n")
    for worker in workers.values():
        worker.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
