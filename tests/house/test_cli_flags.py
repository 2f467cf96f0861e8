"""The verbs, arguments and flags of the command line, frozen: a change shows up in review as a changed file.

After an intended change: `python -m tests.house.test_cli_flags` writes the file again.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import get_args

import pytest
import typer
from typer.models import OptionInfo

from edgesparse_runtime.cli.app import VERBS
from edgesparse_runtime.cli.command import as_command

FROZEN = Path(__file__).with_name("cli_flags.txt")


def describe_flags() -> str:
    """One line per verb, argument and option, with type and default."""
    lines = []
    for name, verb in VERBS.items():
        lines.append(name)
        for parameter in inspect.signature(as_command(verb)).parameters.values():
            if parameter.annotation is typer.Context:
                continue
            kind, info = get_args(parameter.annotation)
            shown = getattr(kind, "__name__", str(kind)) if isinstance(kind, type) else str(kind)
            default = "required" if parameter.default is parameter.empty else repr(parameter.default)
            hidden = ", hidden" if info.hidden else ""
            lines.append(f"    {_names(parameter.name, shown, info)}: {shown} = {default}{hidden}")
    return "\n".join(lines).replace("pathlib._local.", "").replace("pathlib.", "") + "\n"


def _names(name: str, kind: str, info: object) -> str:
    if not isinstance(info, OptionInfo):
        return name
    # In an annotation, typer keeps the first name where a default would be.
    given = [n for n in (info.default, *(info.param_decls or ())) if isinstance(n, str)]
    flag = f"--{name.replace('_', '-')}"
    return ", ".join(given) or (f"{flag}, --no-{flag[2:]}" if kind == "bool" else flag)


def test_verbs_and_flags_are_the_frozen_ones() -> None:
    assert describe_flags() == FROZEN.read_text(encoding="utf-8"), (
        "The command line changed. If that is intended, and old flags still work, write the list again."
    )


@pytest.mark.parametrize("name", VERBS)
def test_every_verb_has_an_example_and_a_sentence_per_option(name: str) -> None:
    command = as_command(VERBS[name])
    assert f"Example: edgesparse {name}" in (command.__doc__ or "")
    for parameter in inspect.signature(command).parameters.values():
        if parameter.annotation is not typer.Context:
            _, info = get_args(parameter.annotation)
            assert info.help and info.help[-1] in ".]", parameter.name


if __name__ == "__main__":
    FROZEN.write_text(describe_flags(), encoding="utf-8")
