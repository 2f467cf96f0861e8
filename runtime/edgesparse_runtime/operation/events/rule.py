"""`EventRules`: when scores of a class begin and end an event; a file of the bundle."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from typing import Any

from edgesparse_runtime.bundle.read import Bundle
from edgesparse_runtime.errors import InputError

SCHEMA = "edgesparse.events/1"
# Name of the rules inside a bundle.
FILE = "events.json"
MOST_WINDOWS = 1_000
_MOST_RULES = 1_000
_LARGEST = 1 << 20


@dataclass(frozen=True)
class EventRule:
    """Of one class.

    Attributes:
        name: of the class.
        needed: windows of the last `windows` that must reach `enter` for an event to begin.
        enter: score.
        leave: an event ends when none of the last `windows` reaches this score.
        refractory: windows after an end in which no event of the class begins.
    """

    name: str
    needed: int
    windows: int
    enter: float
    leave: float
    refractory: int

    def __post_init__(self) -> None:
        if not 1 <= self.needed <= self.windows <= MOST_WINDOWS:
            raise ValueError(f"needed must be 1 to windows, at most {MOST_WINDOWS}")
        if not (math.isfinite(self.enter) and math.isfinite(self.leave) and self.leave <= self.enter):
            raise ValueError("leave must be at most enter")
        if not 0 <= self.refractory <= 1_000_000:
            raise ValueError("refractory must be 0 to 1,000,000")


@dataclass(frozen=True)
class EventRules:
    """Of all classes that have events.

    Attributes:
        rules: one per class.
        false_alarms: the rate that they were fitted for, as it was stated.
        seconds_per_window: from one window to the next, as fitted; None = unknown.
        fitted: what was measured when they were fitted.
    """

    rules: tuple[EventRule, ...]
    false_alarms: str
    seconds_per_window: float | None
    fitted: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "false_alarms": self.false_alarms,
            "seconds_per_window": self.seconds_per_window,
            "rules": [asdict(rule) for rule in self.rules],
            "fitted": self.fitted,
        }

    def to_json(self) -> str:
        """As a file of a bundle."""
        return json.dumps({"schema": SCHEMA, **self.to_dict()}, indent=1) + "\n"


def rules_of(bundle: Bundle) -> EventRules | None:
    """The rules of a bundle; None where it has none.

    Raises:
        InputError: they are damaged.
    """
    if FILE not in bundle.manifest["files"]:
        return None
    return parse_rules(bundle.read(FILE), f"{bundle.path}: {FILE}", bundle.classes)


def parse_rules(content: bytes, where: str, classes: tuple[str, ...]) -> EventRules:
    """Read rules for a model of these classes.

    Raises:
        InputError: they are none, damaged, or of other classes.
    """
    try:
        if len(content) > _LARGEST:
            raise ValueError("it is larger than 1 MB")
        stored = json.loads(content.decode("utf-8"))
        if not isinstance(stored, dict) or stored.get("schema") != SCHEMA:
            raise ValueError(f"its schema is not {SCHEMA}")
        rules = tuple(_rule_from(entry) for entry in stored["rules"][:_MOST_RULES])
        seconds = stored["seconds_per_window"]
        if seconds is not None and not (math.isfinite(float(seconds)) and float(seconds) > 0):
            raise ValueError("seconds_per_window must be above 0")
        strangers = {rule.name for rule in rules} - set(classes)
        if strangers or len({rule.name for rule in rules}) < len(rules):
            raise ValueError("each of its rules must be of one class of the model")
        return EventRules(
            rules,
            str(stored["false_alarms"]),
            None if seconds is None else float(seconds),
            dict(stored["fitted"]),
        )
    except (ValueError, KeyError, TypeError, RecursionError, OverflowError) as error:
        raise InputError(
            f"{where} must hold rules of `edgesparse events fit`; {error}. Fit them again."
        ) from None


def _rule_from(entry: dict[str, Any]) -> EventRule:
    return EventRule(
        str(entry["name"]),
        int(entry["needed"]),
        int(entry["windows"]),
        float(entry["enter"]),
        float(entry["leave"]),
        int(entry["refractory"]),
    )
