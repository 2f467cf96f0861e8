"""The commands behind a page's figures, and those of the next step."""

from __future__ import annotations

import shlex
from typing import Any


def commands_behind(facts: dict[str, Any]) -> list[tuple[str, str, str]]:
    """What each command gives (a key of the words), of which model ("" = all), and the command."""
    if facts["kind"] == "bundle":
        name = shlex.quote(facts["path"])
        found = [("by_profile", "", f"edgesparse profile {name} --threads {facts['threads']}")]
        if facts["data"].get("path"):
            data = shlex.quote(facts["data"]["path"])
            found.append(("by_evaluate", "", f"edgesparse evaluate {name} {data} --robustness"))
        return found
    found = [("by_poc", "", facts["command"] or "edgesparse poc")]
    for rung, settings in facts["overrides"].items():
        flags = " ".join(f"--set {shlex.quote(text)}" for text in settings)
        found.append(("by_train", rung, f"edgesparse train DATA -o RUN {flags}"))
    used, base = (facts["models"][facts["verdict"][key]]["bundle"] for key in ("use", "reference"))
    if used is not None:
        found.append(("by_evaluate", "", f"edgesparse evaluate {used} TEST --robustness"))
        if used != base:
            found.append(("by_compare", "", f"edgesparse compare {base} {used} --threads 1"))
    return found


def next_commands(facts: dict[str, Any]) -> list[str]:
    """Commands for the machine of the line."""
    used = facts["models"][facts["verdict"]["use"]]["bundle"]
    if facts["kind"] == "bundle":
        used = facts["path"]
    if used is None:
        used = facts["models"][facts["verdict"]["fastest"]]["bundle"]
    if used is None:
        return []
    used = shlex.quote(used)
    deadline = f"{facts['deadline']:g}"
    return [
        f"edgesparse verify {used} --on ssh://USER@HOST",
        f"edgesparse profile {used} --on ssh://USER@HOST --rate 10 --deadline {deadline}",
        f"edgesparse explain {used} DATA --check",
        f"edgesparse monitor {used} DATA",
    ]
