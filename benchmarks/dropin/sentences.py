"""Text in, embedding out, on MiniLM: through Python, the command line, the server and sentence-transformers.

The package's folder is exported by the commands of docs/guides/dropin.md, once, and everything is compared on
manual pages that were not calibrated on. The dense model is PyTorch's, pooled and normalized by
`benchmarks.dropin.text`.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.dropin.text import (
    GOLDEN,
    GOLDEN_COSINES,
    embed,
    load_minilm,
    minilm_folder,
    read_pages,
    tokenize,
)
from benchmarks.support.settings import QUICK
from edgesparse_runtime.arrays import FloatArray
from edgesparse_runtime.cli.app import run
from edgesparse_runtime.errors import EdgeSparseError
from edgesparse_runtime.session import Session
from tests.support.running import running

# The folder's own `max_seq_length`.
TOKENS = 256
CALIBRATION, PAGES = (12, 16) if QUICK else (48, 100)
DENSITY, BLOCK = 0.5, 16


def measure_sentences() -> dict[str, Any]:
    """Largest differences and cosines, by what is compared.

    Raises:
        InputError: the package or the pages are not installed.
    """
    pages = [" ".join(page.text.split()) for page in read_pages(CALIBRATION + PAGES)]
    # Of one block to the most tokens.
    texts = [*GOLDEN, *(page[: 40 + 90 * (i % 20)] for i, page in enumerate(pages[CALIBRATION:]))]
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        bundle = export(place, pages[:CALIBRATION])
        found = compare_engines(bundle, texts)
        found["cli"] = float(np.abs(by_cli(place, bundle, texts) - found["vectors"]).max())
        found["serve"] = float(np.abs(by_server(bundle, texts) - found["vectors"]).max())
        found["sentence_transformers"] = by_library(bundle, texts)
    del found["vectors"]
    return found


def export(place: Path, pages: list[str]) -> Path:
    """The bundle, float32 and int8.

    Raises:
        EdgeSparseError: a command failed; it has said why.
    """
    bundle = place / "minilm.edgesparse"
    (place / "pages.txt").write_text("\n".join(pages), encoding="utf-8")
    model = ["export", "--hf", str(minilm_folder()), "--calibrate", str(place / "pages.txt")]
    for call in (
        [*model, "--density", str(DENSITY), "--block-size", str(BLOCK), "-o", str(bundle), "--json"],
        ["quantize", str(bundle), "--json"],
    ):
        if run(call) != 0:
            raise EdgeSparseError(f"edgesparse {call[0]} failed.")
    return bundle


def compare_engines(bundle: Path, texts: list[str]) -> dict[str, Any]:
    """Python alone: to the dense model, alone and in a batch, int8 to float32."""
    session = Session(bundle, precision="float32", threads=1)
    everything = Session(bundle, precision="float32", threads=1, top_p=1.0, max_blocks=1000)
    batch = tokenize(texts, TOKENS)
    with torch.no_grad():
        dense = embed(load_minilm()(**batch).last_hidden_state, batch["attention_mask"]).numpy()
    vectors, whole = session.embed(texts), everything.embed(texts)
    alone = np.concatenate([session.embed([text]) for text in texts])
    int8 = Session(bundle, precision="int8", threads=1)
    near_int8 = (int8.embed(texts) * vectors).sum(-1)
    long = batch["attention_mask"].sum(1).numpy() > 4 * BLOCK
    near = (vectors * dense).sum(-1)
    golden = [float(whole[i] @ whole[j]) for i, j in ((0, 1), (0, 2), (1, 2))]
    return {
        "vectors": vectors,
        "texts": len(texts),
        "whole": float(np.abs(whole - dense).max()),
        "alone": float(np.abs(alone - vectors).max()),
        "golden": max(abs(a - b) for a, b in zip(golden, GOLDEN_COSINES, strict=True)),
        "cosine": float(near[long].mean()),
        "least cosine": float(near.min()),
        "int8 cosine": float(near_int8.mean()),
        "int8 least cosine": float(near_int8.min()),
        "int8 alone": float(
            np.abs(int8.embed(texts[:2]) - np.concatenate([int8.embed([t]) for t in texts[:2]])).max()
        ),
    }


def by_cli(place: Path, bundle: Path, texts: list[str]) -> FloatArray:
    """Embeddings that `edgesparse run` writes."""
    lines = "\n".join(json.dumps({"text": text}) for text in texts)
    (place / "texts.jsonl").write_text(lines, encoding="utf-8")
    out = place / "out.json"
    if run(["run", str(bundle), str(place / "texts.jsonl"), "--precision", "float32", "-o", str(out)]) != 0:
        raise EdgeSparseError("edgesparse run failed.")
    rows = json.loads(out.read_text("utf-8"))["predictions"]
    return np.array([row["embedding"] for row in rows], dtype=np.float32)


def by_server(bundle: Path, texts: list[str]) -> FloatArray:
    """Embeddings that a server answers."""
    found = []
    # A loaded machine must not end a request.
    with running(f"minilm={bundle}", "--precision", "float32", "--timeout", 120) as server:
        for start in range(0, len(texts), 8):
            part = texts[start : start + 8]
            tensor = {"name": "text", "datatype": "BYTES", "shape": [len(part)], "data": part}
            body = json.dumps({"inputs": [tensor]})
            answer = server.ask("POST", "/v2/models/minilm/infer", body)
            if answer.status != 200:
                raise EdgeSparseError(f"The server answered {answer.status}: {answer.json['error']}")
            output = answer.json["outputs"][0]
            found.append(np.array(output["data"]).reshape(output["shape"]))
    return np.concatenate(found).astype(np.float32)


def by_library(bundle: Path, texts: list[str]) -> float | None:
    """Largest difference to sentence-transformers, every block kept; None = it is not installed."""
    if importlib.util.find_spec("sentence_transformers") is None:
        return None
    from sentence_transformers import SentenceTransformer

    with tempfile.TemporaryDirectory() as name:
        # A copy without the model card, which the library parses.
        folder = Path(
            shutil.copytree(minilm_folder(), Path(name) / "m", ignore=shutil.ignore_patterns("*.md"))
        )
        expected = SentenceTransformer(str(folder), device="cpu").encode(texts)
    everything = Session(bundle, precision="float32", threads=1, top_p=1.0, max_blocks=1000)
    return float(np.abs(everything.embed(texts) - expected).max())
