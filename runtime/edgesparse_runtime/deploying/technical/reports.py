"""Reports of measurements, as the verbs write them with `--json`: what they measured, and its key figures.

A report that names the hash of another model is refused: it would be evidence of something else.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgesparse_runtime.bundle.read import Bundle
from edgesparse_runtime.errors import InputError
from edgesparse_runtime.measure.decision.facts import poc_facts

Rows = Iterator[tuple[str, str]]


@dataclass(frozen=True)
class Report:
    """One report.

    Attributes:
        name: of its file.
        kind: the verb that wrote it.
        sha256: of the file.
        ties: how it is tied to the bundle.
        figures: name and value.
    """

    name: str
    kind: str
    sha256: str
    ties: str
    figures: list[tuple[str, str]]


def read_reports(paths: list[Path], bundle: Bundle) -> list[Report]:
    """Reports in the order given.

    Raises:
        InputError: one is no report of this tool, is damaged, or measured another model.
    """
    return [_read(path, bundle) for path in paths]


def _read(path: Path, bundle: Bundle) -> Report:
    try:
        content = path.read_bytes()
        found = json.loads(content)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}.") from None
    except ValueError:
        found = None
    schema = found.get("schema") if isinstance(found, dict) else None
    kind = str(schema).removeprefix("edgesparse.").removesuffix("/1")
    if not isinstance(found, dict) or schema != f"edgesparse.{kind}/1":
        raise InputError(
            f"`--report` {path} must be JSON that a verb of edgesparse wrote, such as `edgesparse evaluate "
            "... --json > evaluate.json`."
        )
    try:
        if kind == "poc":
            found = poc_facts(found, None)
        ours = {bundle.manifest["files"][bundle.model_file(p)]["sha256"] for p in bundle.precisions}
        named = _hashes(found)
        ties = _ties(path, found, named, ours)
        figures = list(_KINDS.get(kind, _none)(found, ours))
    except (KeyError, TypeError, AttributeError, ValueError, IndexError):
        raise InputError(f"`--report` {path} is damaged. Write it again.") from None
    return Report(path.name, kind.replace("_", " "), hashlib.sha256(content).hexdigest(), ties, figures)


def _hashes(found: dict[str, Any]) -> set[str]:
    """Hashes of model files that it names."""
    named = {found.get("sha256")}
    for model in (found.get("models") or {}).values():
        named.add(model.get("sha256"))
    return {str(name) for name in named if name}


def _ties(path: Path, found: dict[str, Any], named: set[str], ours: set[str]) -> str:
    if named & ours:
        return "names the hash of this bundle's model"
    if named:
        raise InputError(f"`--report` {path} measured another model than this bundle's. Measure this one.")
    of = found.get("bundle") or found.get("path") or (found.get("profile") or {}).get("model")
    return f"names no hash; it is of {of}" if of else "does not name what it measured"


def _evaluate(found: dict[str, Any], ours: set[str]) -> Rows:
    yield "data", str(found["data"])
    for name, metric in found["metrics"].items():
        yield name, _metric(metric)
    if worst := found["worst_group"]:
        yield f"worst group, {worst}", _metric(found["groups"][worst])
    if unknown := found["unknown"]:
        yield "called unknown", f"{unknown['refused']:.1%} of {unknown['n']:,} windows"


def _metric(metric: dict[str, Any]) -> str:
    return f"{metric['value']:.3f} [{metric['low']:.3f}, {metric['high']:.3f}], n={metric['n']:,}"


def _report(found: dict[str, Any], ours: set[str]) -> Rows:
    """Of a poc, the models of this bundle."""
    yield "data", str(found["data"].get("source") or "none were given")
    for row in found["models"].values():
        if row["sha256"] not in ours:
            continue
        name, accuracy = row["precision"], row["accuracy"]
        if accuracy is not None:
            ends = "" if accuracy["low"] is None else f" [{accuracy['low']:.3f}, {accuracy['high']:.3f}]"
            yield f"accuracy, {name}", f"{accuracy['value']:.3f}{ends}"
        if row["p99"] is not None:
            yield (
                f"latency, {name}",
                f"p50 {row['p50']:.2f} ms, p99 {row['p99']:.2f} ms, {row['calls']:,} calls",
            )
        if row["noise"] is not None:
            yield (
                f"under {found['noise']:g} % noise, {name}",
                f"{row['noise']['value']:+.1f} points of accuracy",
            )
    yield "machine", str(found["cpu"])


def _profile(found: dict[str, Any], ours: set[str]) -> Rows:
    p = found["profile"]
    yield "model", f"{p['model']} ({p['precision']}, {p['engine']})"
    yield "latency", f"p50 {p['p50']:.2f} ms, p99 {p['p99']:.2f} ms, slowest {p['max']:.2f} ms"
    yield "calls", f"{p['calls']:,} of {p['length']:,} steps, {p['threads']} thread(s)"
    yield "memory", f"{p['memory_peak']:.0f} MB at most"
    for paced in found.get("paced", []):
        yield f"at {paced['rate']:g} per second", f"{paced['missed']} of {paced['calls']} calls late"
    yield "machine", str(found["environment"]["cpu"])


def _verify(found: dict[str, Any], ours: set[str]) -> Rows:
    checks = found["checks"]
    held = sum(check["holds"] for check in checks)
    yield "boundaries that hold", f"{held} of {len(checks)}"
    if found["broken"]:
        yield "broken", ", ".join(map(str, found["broken"]))


def _monitor(found: dict[str, Any], ours: set[str]) -> Rows:
    yield "data", str(found["data"])
    yield "windows", f"{found['windows']:,}, of dead sensors {found['faulty']:,}"
    yield "alarms", f"{len(found['alarms']):,}"
    yield "false alarms", str(found["false_alarms"]) if found["promised"] else "no rate can be promised"


def _none(found: dict[str, Any], ours: set[str]) -> Rows:
    yield "figures", "not quoted here: read the file"


_KINDS: dict[str, Callable[[dict[str, Any], set[str]], Rows]] = {
    "evaluate": _evaluate,
    "report": _report,
    "poc": _report,
    "profile": _profile,
    "verify": _verify,
    "monitor": _monitor,
}
# What a file lacks without it, and how it is made.
EXPECTED = {
    "evaluate": ("accuracy on series that were not trained on", "edgesparse evaluate BUNDLE TEST --json"),
    "report": ("speed, noise and errors on one machine", "edgesparse report BUNDLE --data TEST --json"),
    "profile": ("latency and memory on the target machine", "edgesparse profile BUNDLE --json"),
    "verify": ("answers on the target machine", "edgesparse verify BUNDLE --on ssh://USER@HOST --json"),
    "monitor": ("drift and false alarms", "edgesparse monitor BUNDLE DATA --json"),
}
# A proof of concept has what a report has.
STANDS_FOR = {"report": ("report", "poc")}
