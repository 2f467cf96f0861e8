"""A sentence-transformers folder: which model, which pooling, how long a text, which prompts.

Rules:
1. The pipeline is Transformer, Pooling, and at most a Normalize after it; anything else is refused.
2. Pooling is one of mean, cls, max and lasttoken.
3. A text is truncated to the shortest of the folder's `max_seq_length`, the tokenizer's and the model's
   positions.
4. The tokenizer goes into the bundle as transformers would run it, what the folder changes in it included.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgesparse_runtime.errors import InputError

MODULES = "modules.json"
POOLINGS = ("mean", "cls", "max", "lasttoken")
# As older folders write them: `pooling_mode_<name>` true or false.
_OLD = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}


@dataclass(frozen=True)
class SentenceFolder:
    """What a folder says about its embeddings.

    Attributes:
        model: the folder of the transformer.
        pooling: one of `POOLINGS`.
        normalize: embeddings have length 1.
        max_tokens: of the folder; None = it names none.
        lowercase: texts are lowercased first.
        prompts: texts put before each text, by name; `default_prompt` where none is named.
    """

    model: Path
    pooling: str
    normalize: bool
    max_tokens: int | None = None
    lowercase: bool = False
    prompts: Mapping[str, str] = field(default_factory=dict)
    default_prompt: str | None = None


def is_sentence_folder(folder: Path) -> bool:
    """Whether sentence-transformers wrote the folder."""
    return (folder / MODULES).is_file()


def read_sentence_folder(folder: Path) -> SentenceFolder:
    """Read and check what `is_sentence_folder` is true for.

    Raises:
        InputError: a module or a pooling that cannot be exported, or a damaged folder.
    """
    modules = _read(folder / MODULES)
    if not isinstance(modules, list) or not all(isinstance(m, dict) for m in modules):
        raise InputError(f"{folder / MODULES} must list the modules of a sentence-transformers model.")
    kinds = [str(m.get("type", "")).rsplit(".", 1)[-1] for m in modules]
    if kinds not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        raise InputError(
            f"{folder} must be Transformer, Pooling and at most Normalize; it is "
            f"{', '.join(kinds) or 'empty'}. Export the transformer alone (a folder without modules.json) "
            "and run the rest in the application."
        )
    places = [_inside(folder, str(m.get("path", ""))) for m in modules]
    pooling, includes_prompt = _read_pooling(places[1] / "config.json")
    prompts, default = _read_prompts(folder / "config_sentence_transformers.json")
    if prompts and not includes_prompt:
        raise InputError(f"{folder} must pool over its prompts too; its pooling leaves them out.")
    tokens, lowercase = _read_transformer(places[0])
    return SentenceFolder(places[0], pooling, len(kinds) == 3, tokens, lowercase, prompts, default)


def _read_pooling(path: Path) -> tuple[str, bool]:
    """The pooling, and whether it counts the prompt."""
    config = _read_object(path)
    mode = config.get("pooling_mode")
    if mode is None:
        mode = [name for key, name in _OLD.items() if config.get(key)] or ["mean"]
    modes = [mode] if isinstance(mode, str) else mode
    if not isinstance(modes, list) or len(modes) != 1 or modes[0] not in POOLINGS:
        got = ", ".join(map(str, modes)) if isinstance(modes, list) else mode
        raise InputError(f"Pooling must be one of {', '.join(POOLINGS)}; {path} has {got}.")
    return modes[0], bool(config.get("include_prompt", True))


def _read_prompts(path: Path) -> tuple[dict[str, str], str | None]:
    """Prompts that add something, and the name of the one that is used by default."""
    config = _read_object(path) if path.is_file() else {}
    if config.get("truncate_dim") is not None:
        raise InputError(f"{path} must leave `truncate_dim` out; cut embeddings in the application.")
    given = config.get("prompts") or {}
    if not isinstance(given, dict) or not all(isinstance(x, str) for x in given.values()):
        raise InputError(f"`prompts` in {path} must be texts by name.")
    default = config.get("default_prompt_name")
    if default is not None and default not in given:
        raise InputError(f"`default_prompt_name` in {path} must be one of its prompts; got {default}.")
    return {name: text for name, text in given.items() if text or name == default}, default


def _read_transformer(folder: Path) -> tuple[int | None, bool]:
    """Most tokens, and whether texts are lowercased."""
    found = sorted(folder.glob("sentence_*_config.json"))
    config = _read_object(found[0]) if found else {}
    task = config.get("transformer_task", "feature-extraction")
    if task != "feature-extraction":
        raise InputError(f"{found[0]} must be for feature-extraction; it is for {task}.")
    tokens = config.get("max_seq_length")
    if tokens is not None and (type(tokens) is not int or tokens < 1):
        raise InputError(f"`max_seq_length` in {found[0]} must be a number of tokens; got {tokens}.")
    return tokens, bool(config.get("do_lower_case", False))


def _inside(folder: Path, path: str) -> Path:
    place = folder / path
    if not place.resolve().is_relative_to(folder.resolve()):
        raise InputError(f"Modules of {folder} must lie inside it; got {path}.")
    return place


def _read_object(path: Path) -> dict[str, Any]:
    value = _read(path)
    if not isinstance(value, dict):
        raise InputError(f"{path} must hold a JSON object.")
    return value


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise InputError(f"{path} cannot be read; {error.strerror}.") from None
    except ValueError:
        raise InputError(f"{path} must be JSON in UTF-8.") from None
