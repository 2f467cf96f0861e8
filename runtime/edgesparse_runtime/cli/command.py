"""A verb is a function of one request: a frozen dataclass whose fields are its arguments and options."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any, get_type_hints


def as_command(verb: Callable[[Any], None]) -> Callable[..., None]:
    """`verb` as typer reads commands: one parameter per field of its request.

    A class's own fields come before those it inherits, so `--help` lists what is special to a verb first.
    """
    request: type[Any] = next(kind for name, kind in get_type_hints(verb).items() if name != "return")

    def command(**values: Any) -> None:
        verb(request(**values))

    hints = get_type_hints(request, include_extras=True)
    fields = {field.name: field for field in dataclasses.fields(request)}
    ordered = dict.fromkeys(
        name for owner in request.__mro__ for name in vars(owner).get("__annotations__", {}) if name in fields
    )
    command.__doc__ = verb.__doc__
    command.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [_parameter(fields[name], hints[name]) for name in ordered]
    )
    return command


def _parameter(field: dataclasses.Field[Any], hint: Any) -> inspect.Parameter:
    default = inspect.Parameter.empty if field.default is dataclasses.MISSING else field.default
    return inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=hint)
