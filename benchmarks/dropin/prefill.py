"""A whole prompt in onnxruntime: SmolLM2-135M's sparse file beside what a user would export today.

The rival is the file that onnxruntime-genai's model builder writes (float32, processor): dense attention by
`GroupQueryAttention`, the last token's logits only, as ours. Seconds and peak memory of one prompt, each run
in a process of its own, in turn; and whether a fact planted in a prompt is found, by the sparse file and by
the same file with every block kept.

`python -m benchmarks.dropin.prefill [TOKENS]` prints it as JSON.
"""

from __future__ import annotations

import atexit
import json
import os
import shutil
import subprocess
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from tempfile import mkdtemp
from typing import Any

import numpy as np
import onnx_ir as ir

from benchmarks.dropin.language import CALIBRATED, TESTED, calibrated, load_smollm, read_windows
from benchmarks.support.settings import QUICK
from edgesparse_export.dropin.decoder_program import decoder_to_onnx
from edgesparse_runtime.errors import InputError

ROUNDS = 1 if QUICK else 3
# Of SmolLM2-135M; the rival does not tell.
HEAD_SIZE = 64
THREADS = int(os.environ.get("THREADS", "1"))
# Where in the prompt a fact stands, as a share of its length.
DEPTHS = (0.0, 0.25, 0.5, 0.75, 0.95)
FACT = "\n\nThe secret number of the blue house is {}. Remember it.\n\n"
QUESTION = "\n\nWhat is the secret number of the blue house? The secret number of the blue house is"
# Digits of the number, and tokens that are written.
DIGITS, WRITTEN = 5, 6
# A short prompt first: what it leaves in the arena is not counted as the long one's.
SCRIPT = """
import json, sys, time
import numpy as np
import onnxruntime
from edgesparse_runtime.engine import register
file, inputs, output, threads, size = sys.argv[1:]
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = int(threads)
options.log_severity_level = 3
engine = register(options)
session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
ids = np.load(inputs)
names = {x.name: x for x in session.get_inputs()}
outputs = [x.name for x in session.get_outputs() if not x.name.startswith("selection")]
def feeds(ids):
    found = {"input_ids": ids}
    if "attention_mask" in names:
        found["attention_mask"] = np.ones_like(ids)
    for name, x in names.items():
        if name.startswith("past_key_values."):
            found[name] = np.zeros((1, x.shape[1], 0, int(size)), np.float32)
    return found
session.run(outputs, feeds(ids[:, :256]))
def status(name):
    return next(int(x.split()[1]) for x in open("/proc/self/status") if x.startswith(name)) / 1024
open("/proc/self/clear_refs", "w").write("5")
before, start = status("VmRSS"), time.perf_counter()
result = session.run(outputs, feeds(ids))[0]
seconds = time.perf_counter() - start
most = status("VmHWM")
print(json.dumps({"seconds": seconds, "mb": most, "added_mb": most - before, "engine": str(engine)}))
np.save(output, result.reshape(-1))
"""


@cache
def write_files() -> tuple[Path, dict[str, Path]]:
    """Both files, and the folder that they lie in, with the tokenizer as `model`, until this process ends.

    Raises:
        InputError: onnxruntime-genai is not installed.
    """
    if find_spec("onnxruntime_genai") is None:
        raise InputError(
            "onnxruntime-genai is not installed: pip install --no-deps onnxruntime-genai==0.18.0"
        )
    folder = Path(mkdtemp(prefix="edgesparse-prefill-"))
    atexit.register(shutil.rmtree, folder)
    files = {"dense": folder / "dense" / "model.onnx", "sparse": folder / "sparse.onnx"}
    model, _ = calibrated(CALIBRATED)
    ir.save(decoder_to_onnx(model), files["sparse"])
    _save_plain(folder / "model")
    command = [sys.executable, "-m", "onnxruntime_genai.models.builder", "-i", str(folder / "model")]
    command += ["-o", str(folder / "dense"), "-p", "fp32", "-e", "cpu", "-c", str(folder / "cache")]
    command += ["--extra_options", "prune_lm_head=true", "hf_token=false"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"The dense file was not made; {done.stderr.strip().splitlines()[-1]}.")
    return folder, files


def _save_plain(folder: Path) -> None:
    """SmolLM2 as a folder of safetensors: the builder reads no GGUF."""
    import transformers

    model, tokenizer = load_smollm()
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    plain = transformers.AutoModelForCausalLM.from_config(model.config, dtype=model.dtype)
    plain.load_state_dict(model.state_dict())
    plain.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def time_prompt(files: dict[str, Path], ids_1N: Any, folder: Path) -> dict[str, Any]:
    """Both files in turn, `ROUNDS` times: the median of seconds, the largest of megabytes."""
    inputs = folder / "ids.npy"
    np.save(inputs, ids_1N)
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in files}
    for _ in range(ROUNDS):
        for name, file in files.items():
            command = [sys.executable, "-c", SCRIPT, str(file), str(inputs), str(folder / f"{name}.npy")]
            done = subprocess.run(
                [*command, str(THREADS), str(HEAD_SIZE)], capture_output=True, text=True, check=False
            )
            if done.returncode != 0:
                raise SystemExit(f"The {name} file did not run; {done.stderr.strip().splitlines()[-1:]}.")
            runs[name].append(json.loads(done.stdout))
            print(f"{name}: {runs[name][-1]}", file=sys.stderr, flush=True)
    found: dict[str, Any] = {
        name: {
            "seconds": median(x["seconds"] for x in several),
            "mb": max(x["mb"] for x in several),
            "added_mb": max(x["added_mb"] for x in several),
            "engine": several[0]["engine"],
        }
        for name, several in runs.items()
    }
    dense, sparse = (np.load(folder / f"{name}.npy") for name in ("dense", "sparse"))
    found["same next token"] = bool(dense.argmax() == sparse.argmax())
    return found


def find_facts(file: Path, tokens: int, folder: Path) -> dict[str, list[int]]:
    """Digits right of a number at each depth, by the sparse file and by the same with every block kept."""
    import onnxruntime
    import transformers

    from edgesparse_runtime.engine import register

    tokenizer = transformers.AutoTokenizer.from_pretrained(folder / "model", local_files_only=True)
    text = read_windows(tokenizer, TESTED, tokens, 2)[1].tolist()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = THREADS, 3
    register(options)
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    draw = np.random.default_rng(0)
    found: dict[str, list[int]] = {"sparse": [], "every block": []}
    for depth in DEPTHS:
        number = "".join(str(x) for x in draw.integers(1, 10, DIGITS))
        fact, question = tokenizer(FACT.format(number))["input_ids"], tokenizer(QUESTION)["input_ids"]
        room = tokens - len(fact) - len(question)
        place = round(depth * room)
        ids = [*text[:place], *fact, *text[place:room], *question]
        for name, knobs in (("sparse", {}), ("every block", _every_block(session))):
            written = tokenizer.decode(_write(session, np.array([ids]), knobs)).strip()
            right = sum(a == b for a, b in zip(number, written, strict=False))
            print(
                f"{tokens} tokens, depth {depth}, {name}: {number} {written!r}", file=sys.stderr, flush=True
            )
            found[name].append(right)
    return found


def _every_block(session: Any) -> dict[str, Any]:
    shapes = {x.name: x.shape for x in session.get_overridable_initializers()}
    return {
        "top_p": np.ones(shapes["top_p"], np.float32),
        "max_blocks": np.full(shapes["max_blocks"], 2**30, np.int64),
    }


def _write(session: Any, ids_1N: Any, knobs: dict[str, Any]) -> list[int]:
    """The next tokens, greedily: a prompt by the knobs, each further token densely."""
    names = [x.name for x in session.get_outputs() if not x.name.startswith("selection")]
    written, feeds = [], {"input_ids": ids_1N, **knobs}
    for _ in range(WRITTEN):
        scores, *present = session.run(names, feeds)
        written.append(int(scores[0].argmax()))
        feeds = {"input_ids": np.array([[written[-1]]]), **knobs}
        feeds |= {name.replace("present", "past"): x for name, x in zip(names[1:], present, strict=True)}
    return written


def measure_prefill(tokens: int) -> dict[str, Any]:
    """Time, memory and facts at one length."""
    folder, files = write_files()
    _, tokenizer = load_smollm()
    ids = read_windows(tokenizer, TESTED, tokens, 1).numpy()
    return {
        **time_prompt(files, ids, folder),
        "tokens": tokens,
        "threads": THREADS,
        "facts": find_facts(files["sparse"], tokens, folder),
    }


if __name__ == "__main__":
    print(json.dumps(measure_prefill(int(sys.argv[1]) if len(sys.argv) > 1 else 1024), indent=1))
