"""Text files with `$names` to fill in; whatever fills them is quoted first, see `data.escape`."""

from __future__ import annotations

from importlib import resources
from string import Template


def fill(template: str, **values: object) -> str:
    """The text of a template file with every name filled in.

    Raises:
        KeyError: a name is missing.
    """
    text = resources.files(__name__).joinpath(template).read_text("utf-8")
    return Template(text).substitute({name: str(value) for name, value in values.items()})
