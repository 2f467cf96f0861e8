"""Ctrl-C at a chosen call of a chosen function."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import pytest


@contextmanager
def interrupted(
    monkeypatch: pytest.MonkeyPatch,
    module: ModuleType,
    name: str,
    is_time: Callable[[int, tuple[Any, ...]], bool],
) -> Iterator[None]:
    """The block ends with `KeyboardInterrupt`, after the call for which `is_time(calls, arguments)`."""
    original, calls = getattr(module, name), 0

    def interrupt(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        result = original(*arguments)
        if is_time(calls, arguments):
            raise KeyboardInterrupt
        return result

    monkeypatch.setattr(module, name, interrupt)
    with pytest.raises(KeyboardInterrupt):
        yield
    monkeypatch.setattr(module, name, original)
