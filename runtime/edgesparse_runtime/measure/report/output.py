"""A result as a file: a page to read, JSON to compare, a Chrome trace to inspect."""

from __future__ import annotations

import json
from pathlib import Path

from edgesparse_runtime.bundle.output_file import write_output
from edgesparse_runtime.errors import InputError
from edgesparse_runtime.measure.report.html import profile_page
from edgesparse_runtime.measure.results import ProfileResult
from edgesparse_runtime.measure.trace import chrome_trace

# A trace is JSON too, so its ending is tested first.
FORMS = (".trace.json", ".html", ".json")
SCHEMA = "edgesparse.profile/1"


def check_form(path: Path, *, has_modules: bool) -> None:
    """Refuse a file name before anything is measured.

    Raises:
        InputError: another ending, or a trace of a result without modules.
    """
    if not path.name.endswith(FORMS):
        raise InputError(f"`--output` must end in {', '.join(FORMS)}; got {path.name}.")
    if path.name.endswith(".trace.json") and not has_modules:
        raise InputError("A Chrome trace needs `--modules`. Leave out `--no-modules`.")


def write_result(path: Path, result: ProfileResult) -> None:
    """Write `result` in the form of the path's ending, whole or not at all.

    Raises:
        InputError: as `check_form`.
    """
    check_form(path, has_modules=result.trace is not None)
    if path.name.endswith(".trace.json"):
        events = [] if result.trace is None else result.trace.events
        metadata = {"environment": result.environment, "profile": result.profile.to_dict()}
        text = json.dumps(chrome_trace(events, metadata))
    elif path.suffix == ".html":
        text = profile_page(result)
    else:
        content = {key: value for key, value in result.to_dict().items() if key != "trace"}
        text = json.dumps({"schema": SCHEMA, **content}, indent=2) + "\n"
    write_output(path, text)
