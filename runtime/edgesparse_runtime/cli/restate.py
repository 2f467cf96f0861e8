"""The command line that a request came from, so that a result can name the command behind it."""

from __future__ import annotations

import dataclasses
import shlex
from typing import Any, get_args, get_type_hints

from typer.models import OptionInfo


def restate(verb: str, request: Any) -> str:
    """`edgesparse VERB ARGUMENTS OPTIONS` as a shell takes it; options at their defaults are left out."""
    hints = get_type_hints(type(request), include_extras=True)
    arguments, options = [], []
    for field in dataclasses.fields(request):
        value = getattr(request, field.name)
        _, info, *_ = get_args(hints[field.name])
        if not isinstance(info, OptionInfo):
            arguments.append(str(value))
            continue
        if value == field.default or value is None:
            continue
        # In an annotation, typer keeps the first name where a default would be.
        names = [n for n in (info.default, *(info.param_decls or ())) if isinstance(n, str)]
        name = names[0] if names else f"--{field.name.replace('_', '-')}"
        values = value if isinstance(value, (list, tuple)) else [value]
        for single in values:
            options += [name] if single is True else [name, str(single)]
    return shlex.join(["edgesparse", verb, *arguments, *options])
