"""A sentence-transformers folder of random weights with a tokenizer of a few words."""

from __future__ import annotations

import json
import random
import re
import shlex
from pathlib import Path
from typing import Any

import torch

from tests.edgesparse.dropin.tiny_models import sharpen
from tests.support.paths import ROOT

WORDS = ("pump", "valve", "runs", "hot", "noise", "bearing", "the", "a", "is", "stops", "oil", "low", "shift")
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
MAX_TOKENS = 96
BUNDLE = "minilm.edgesparse"
PROMPTS = {"query": "the query is\n", "document": ""}


def sentences(count: int, words: int, *, seed: int = 0) -> list[str]:
    """Texts of `words` words each."""
    pick = random.Random(seed)
    return [" ".join(pick.choices(WORDS, k=words)) for _ in range(count)]


def make_tokenizer() -> Any:
    """Words to ids, `[CLS]` before and `[SEP]` after."""
    import tokenizers

    vocabulary = {word: i for i, word in enumerate((*SPECIAL, *WORDS))}
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="[UNK]"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    made.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return made


def make_sentence_folder(
    folder: Path,
    *,
    pooling: str = "mean",
    normalize: bool = True,
    modules: tuple[str, ...] = (),
    prompts: dict[str, str] | None = None,
    default_prompt: str | None = None,
    lowercase: bool = False,
) -> Path:
    """Write a folder of a tiny BERT."""
    import transformers as t

    torch.manual_seed(0)
    model = t.BertModel(
        t.BertConfig(
            vocab_size=len(SPECIAL) + len(WORDS), hidden_size=32, num_hidden_layers=1, num_attention_heads=4,
            intermediate_size=48, max_position_embeddings=128,
        )
    )  # fmt: skip
    sharpen(model)
    model.save_pretrained(folder)
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    t.PreTrainedTokenizerFast(
        tokenizer_object=make_tokenizer(), model_max_length=128, **special
    ).save_pretrained(folder)
    kinds = ("Transformer", "Pooling", *(("Normalize",) if normalize else ()), *modules)
    places = [("" if kind == "Transformer" else f"{i}_{kind}") for i, kind in enumerate(kinds)]
    entries = [
        {"idx": i, "name": str(i), "path": place, "type": f"sentence_transformers.models.{kind}"}
        for i, (kind, place) in enumerate(zip(kinds, places, strict=True))
    ]
    for place in places:
        (folder / place).mkdir(exist_ok=True)
    old = {"mean": "mean_tokens", "cls": "cls_token", "max": "max_tokens", "lasttoken": "lasttoken"}
    config = {"word_embedding_dimension": 32, f"pooling_mode_{old.get(pooling, pooling)}": True}
    write(folder / "modules.json", entries)
    write(folder / "1_Pooling" / "config.json", config)
    write(folder / "sentence_bert_config.json", {"max_seq_length": MAX_TOKENS, "do_lower_case": lowercase})
    if prompts is not None:
        facts = {"prompts": prompts, "default_prompt_name": default_prompt}
        write(folder / "config_sentence_transformers.json", facts)
    return folder


def write(path: Path, value: object) -> None:
    path.write_text(json.dumps(value))


def example() -> tuple[list[list[str]], str]:
    """The commands, and the Python, of the section on text in docs/guides/dropin.md."""
    page = (ROOT / "docs" / "guides" / "dropin.md").read_text()
    section = page.split("## Text in, embeddings out\n")[1].split("\n## ")[0]
    blocks = re.findall(r"```\n(.*?)```", section, flags=re.DOTALL)
    commands = [shlex.split(line) for line in blocks[0].splitlines()]
    assert all(command[0] == "edgesparse" for command in commands)
    return commands, blocks[1]
