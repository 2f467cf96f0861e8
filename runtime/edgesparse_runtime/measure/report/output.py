"""A result as a file: a page to read, JSON to compare, a trace to look into."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from edgesparse_runtime.bundle.atomic import replace_text
from edgesparse_runtime.errors import InputError
from edgesparse_runtime.measure.report.html import profile_page
from edgesparse_runtime.measure.trace import chrome_trace

# A trace is JSON too, so its ending is looked for first.
FORMS = (".trace.json", ".html", ".json")
SCHEMA = "edgesparse.profile/1"


def write_result(path: Path, result: dict[str, Any]) -> None:
    """Write `result` in the form of the path's ending, whole or not at all.

    Raises:
        InputError: another ending, or a trace of a result without modules.
    """
    if path.name.endswith(".trace.json"):
        if "trace" not in result:
            raise InputError("A Chrome trace must come from `--modules`. Leave out `--no-modules`.")
        metadata = {"environment": result["environment"], "profile": result["profile"]}
        text = json.dumps(chrome_trace(result["trace"]["events"], metadata))
    elif path.suffix == ".html":
        text = profile_page(result)
    elif path.suffix == ".json":
        content = {key: value for key, value in result.items() if key != "trace"}
        text = json.dumps({"schema": SCHEMA, **content}, indent=2) + "\n"
    else:
        raise InputError(f"`--output` must end in {', '.join(FORMS)}; got {path.name}.")
    replace_text(path, text)
