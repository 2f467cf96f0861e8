"""How data are to be read, as a file: `data.yaml`, which `edgesparse data inspect --save-spec` writes.

One `key: value` per line, each value in JSON or a plain word: this is YAML, and reading it needs no package.
Lines that start with # are comments. Keys are those of the options of the same name.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgesparse_runtime.data.readers.options import ReadOptions, known_task
from edgesparse_runtime.data.readers.span import Span
from edgesparse_runtime.data.readers.text import read_lines
from edgesparse_runtime.errors import InputError

TEXTS = (
    *("label_from", "label_column", "series_column", "group_column", "time_column", "time_unit"),
    *("encoding", "window", "stride"),
)
KEYS = (*TEXTS, "channels", "period")
_LINE = re.compile(r"(\w+):(?:\s+(.*?))?\s*")
_HEAD = "# How `edgesparse` reads these data; --spec takes it in every verb that reads data."


def read_spec(path: Path) -> dict[str, Any]:
    """What a file states: text by key, `channels` as a list, `period` in seconds.

    Raises:
        InputError: names the line.
    """
    if not path.is_file():
        raise InputError(
            f"{path}: no such file. `edgesparse data inspect DATA --save-spec {path}` writes it."
        )
    found: dict[str, Any] = {}
    for number, line in enumerate(read_lines(path), start=1):
        if not line.strip() or line.lstrip().startswith("#") or line.strip() == "---":
            continue
        match = _LINE.fullmatch(line)
        if match is None or not match[2]:
            raise InputError(f"{path}, row {number} must be `key: value`; got {line.strip()[:60]!r}.")
        key = match[1]
        if key not in KEYS:
            near = difflib.get_close_matches(key, KEYS, n=1)
            hint = f"Did you mean {near[0]}?" if near else f"Keys are {', '.join(KEYS)}."
            raise InputError(f"{path}, row {number}: unknown key {key}. {hint}")
        if key in found:
            raise InputError(f"{path}, row {number}: {key} stands twice. Leave one out.")
        found[key] = _value(key, match[2], f"{path}, row {number}")
    return found


def _value(key: str, text: str, place: str) -> Any:
    try:
        value = json.loads(text)
    except ValueError:
        if text[0] in "[{\"'&*!|>%@`" or " #" in text:
            raise InputError(f"{place}: {key} must be JSON, or plain words; got {text[:60]}.") from None
        value = text
    if key in TEXTS and isinstance(value, (str, int, float)) and not isinstance(value, bool):
        # A window of 100 steps is a number there, and a text on the command line.
        return str(value)
    if key == "channels" and isinstance(value, list) and value and all(isinstance(x, str) for x in value):
        return value
    if key == "period" and isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0:
        return float(value)
    wanted = {"channels": 'a list of names, as ["a", "b"]', "period": "seconds between steps, above 0"}
    raise InputError(f"{place}: {key} must be {wanted.get(key, 'text')}; got {text[:60]}.")


def to_options(values: Mapping[str, Any], task: str = "classification") -> ReadOptions:
    """What a spec, or a command line with the same keys, states, as readers take it.

    Raises:
        InputError: window or stride is neither a number of steps nor a time.
    """
    spans = {
        name: None if values.get(name) is None else Span.parse(values[name], f"--{name}")
        for name in ("window", "stride")
    }
    window, stride = spans["window"], spans["stride"]
    texts: dict[str, Any] = {name: values.get(name) for name in TEXTS if name not in spans}
    channels = values.get("channels")
    return ReadOptions(
        task=known_task(task),
        window=None if window is None else window.steps,
        stride=None if stride is None else stride.steps,
        window_time=None if window is None or window.steps else window,
        stride_time=None if stride is None or stride.steps else stride,
        channels=tuple(channels) if channels else None,
        period=values.get("period"),
        **texts,
    )


def spec_text(values: Mapping[str, Any]) -> str:
    """The file's text; what is None is left out."""
    lines = [
        f"{key}: {json.dumps(values[key], ensure_ascii=False)}" for key in KEYS if values.get(key) is not None
    ]
    return "\n".join([_HEAD, *lines, ""])
