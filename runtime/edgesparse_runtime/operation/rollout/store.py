"""`Store`: bundles by content, and which of them answers.

A bundle lies in `store/SHA256.edgesparse` before any pointer leads to it. Pointers change in one transaction
of `rollout.sqlite`; the link `current.edgesparse`, for servers, is brought in line with them afterwards in
one step, and again by whoever opens the store next. So whatever dies when, one valid bundle is current.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from edgesparse_runtime.bundle.names import SUFFIX
from edgesparse_runtime.bundle.read import Bundle, all_files, open_bundle
from edgesparse_runtime.bundle.write import store_files
from edgesparse_runtime.errors import GateError, InputError
from edgesparse_runtime.operation.rollout.database import FILE, Database

LINK = f"current{SUFFIX}"
MODES = ("shadow", "live")
# A live trial goes back when more than this share of at least so many windows misses its deadline.
MOST_LATE, FEWEST_WINDOWS = 0.01, 100


@dataclass(frozen=True)
class Trial:
    """What is on trial, and what was compared so far.

    Attributes:
        mode: "shadow" (beside the current one) or "live" (answers).
        began, deadline: seconds since 1970.
        windows: that both have answered, or that the live trial has.
        equal: decisions alike; failed: windows that the trial did not answer; late: missed deadlines.
        current_ms, trial_ms: mean time of a prediction.
    """

    sha256: str
    mode: str
    began: float
    deadline: float
    windows: int
    equal: int
    failed: int
    late: int
    current_ms: float
    trial_ms: float


class Store:
    """An opened store.

    Args:
        folder: of the store.
        create: make it where it is not there.
        now: the clock.

    Raises:
        InputError: there is no store.
        OSError: it cannot be read or written.
    """

    def __init__(self, folder: Path, *, create: bool = False, now: Callable[[], float] = time.time) -> None:
        self.folder, self._now = folder, now
        if create:
            folder.mkdir(parents=True, exist_ok=True)
        elif not (folder / FILE).is_file():
            raise InputError(f"{folder}: no such store. `edgesparse rollout try BUNDLE --store` makes one.")
        self._database = Database(folder / FILE)
        self.settle()

    def pointer(self, name: str) -> str:
        """The sha256 that `current`, `previous` or `trial` leads to; "" = nothing."""
        rows = self._database.read("SELECT sha256 FROM pointer WHERE name = ?", name)
        return str(rows[0][0]) if rows else ""

    def path(self, sha256: str) -> Path:
        """Where a bundle lies."""
        return self.folder / "store" / f"{sha256}{SUFFIX}"

    def trial(self) -> Trial | None:
        """What is on trial."""
        # In one statement: another process may end it and begin the next between two.
        rows = self._database.read("SELECT * FROM trial, pointer WHERE pointer.name = 'trial'")
        if not rows:
            return None
        row = rows[0]
        count = max(1, row["windows"])
        return Trial(
            row["sha256"],
            row["mode"],
            *(row["began"], row["deadline"], row["windows"], row["equal"], row["failed"], row["late"]),
            current_ms=row["current_ms"] / count,
            trial_ms=row["trial_ms"] / count,
        )

    def answering(self) -> str:
        """The sha256 of the bundle that answers: a live trial, or the current one.

        Raises:
            InputError: the store has none.
        """
        trial = self.trial()
        found = trial.sha256 if trial is not None and trial.mode == "live" else self.pointer("current")
        if not found:
            raise InputError(f"{self.folder}: the store has no bundle. Run `edgesparse rollout try` first.")
        return found

    def release(self, sha256: str) -> int:
        rows = self._database.read("SELECT release FROM bundle WHERE sha256 = ?", sha256)
        return int(rows[0][0]) if rows else 0

    def audit(self, most: int = 20) -> list[dict[str, Any]]:
        """The latest changes, the oldest of them first."""
        rows = self._database.read("SELECT * FROM audit ORDER BY id DESC LIMIT ?", most)
        return [{**dict(row), "time": _text(row["time"])} for row in reversed(rows)]

    def begin(self, bundle: Bundle, mode: str, seconds: float) -> str:
        """Take a bundle in and begin its trial; the first one of a store becomes current.

        Returns:
            "trial" or "current": what it is now.

        Raises:
            InputError: another trial is on, or it is current already.
            GateError: a lower release number than one that was current, or it has expired.
        """
        sha256, now = bundle.sha256, self._now()
        release, expires = self.check(bundle)
        target = self.path(sha256)
        if not target.exists():
            store_files(target, all_files(bundle))
        with self._database.change() as change:
            change.execute(
                "INSERT OR IGNORE INTO bundle VALUES (?, ?, ?, ?, ?)",
                (sha256, bundle.name, release, expires, now),
            )
            if not change.execute("SELECT 1 FROM pointer WHERE name = 'current'").fetchone():
                change.execute("INSERT INTO pointer VALUES ('current', ?)", (sha256,))
                _note(change, now, "first", sha256, f"release {release}")
                place = "current"
            elif change.execute("SELECT 1 FROM trial").fetchone():
                raise InputError(f"{self.folder}: a trial is on already. Promote it or roll it back first.")
            else:
                change.execute("INSERT INTO pointer VALUES ('trial', ?)", (sha256,))
                change.execute(
                    "INSERT INTO trial (one, mode, began, deadline) VALUES (1, ?, ?, ?)",
                    (mode, now, now + seconds),
                )
                _note(change, now, "try", sha256, f"release {release}, {mode}, for {seconds:.0f} s")
                place = "trial"
        self._publish()
        return place

    def check(self, bundle: Bundle) -> tuple[int, str]:
        """Release number and expiry of a bundle that may be tried.

        Raises:
            InputError: it is current already, or has another interface than the current one.
            GateError: its release number is too low, or it has expired.
        """
        release = bundle.manifest.get("release", 0)
        expires = bundle.manifest.get("expires", "")
        if expires and expires <= _text(self._now()):
            raise GateError(f"{bundle.path} has expired ({expires}). It was not taken.")
        current = self.pointer("current")
        if not current:
            return release, expires
        if bundle.sha256 == current:
            raise InputError(f"{bundle.path} is current already.")
        rows = self._database.read("SELECT DISTINCT sha256 FROM audit WHERE action IN ('first', 'current')")
        highest = max((self.release(str(row[0])) for row in rows), default=0)
        if release < highest or (release == highest > 0):
            raise GateError(
                f"{bundle.path} must have a release number above {highest}, the highest that was current; it "
                f"has {release}. To go back, use `edgesparse rollout rollback`."
            )
        now_current = open_bundle(self.path(current))
        if (bundle.channels, bundle.classes) != (now_current.channels, now_current.classes):
            raise InputError(f"{bundle.path} must have the channels and classes of the current bundle.")
        return release, expires

    def accept(self, action: str) -> str:
        """Make the trial current ("confirm" or "promote"), the current one previous.

        Raises:
            InputError: nothing is on trial.
        """
        with self._database.change() as change:
            trial = _pointer(change, "trial")
            if not trial:
                raise InputError(f"{self.folder}: nothing is on trial.")
            change.execute(
                "INSERT OR REPLACE INTO pointer SELECT 'previous', sha256 FROM pointer WHERE name = 'current'"
            )
            change.execute("UPDATE pointer SET sha256 = ? WHERE name = 'current'", (trial,))
            _end_trial(change)
            _note(change, self._now(), action, trial, "")
            _note(change, self._now(), "current", trial, "")
        self._publish()
        return trial

    def back(self, reason: str) -> str:
        """End the trial; without one, go back to the previous bundle.

        Returns:
            the sha256 that is current now.

        Raises:
            InputError: there is nothing to go back to.
        """
        with self._database.change() as change:
            trial, previous = _pointer(change, "trial"), _pointer(change, "previous")
            if trial:
                _end_trial(change)
                _note(change, self._now(), "back", trial, reason)
            elif previous:
                gone = _pointer(change, "current")
                change.execute("UPDATE pointer SET sha256 = ? WHERE name = 'current'", (previous,))
                change.execute("DELETE FROM pointer WHERE name = 'previous'")
                _note(change, self._now(), "rollback", gone, reason)
            else:
                raise InputError(f"{self.folder}: there is no trial and no previous bundle to go back to.")
        self._publish()
        return self.pointer("current")

    def end_trial(self, sha256: str, reason: str) -> bool:
        """End the trial of that bundle; False where it has ended already, whoever ended it."""
        with self._database.change() as change:
            if not sha256 or _pointer(change, "trial") != sha256:
                return False
            _end_trial(change)
            _note(change, self._now(), "back", sha256, reason)
        self._publish()
        return True

    def count(
        self,
        windows: int,
        equal: int,
        failed: int,
        late: int,
        current_s: float,
        trial_s: float,
        *,
        of: str | None = None,
    ) -> None:
        """Add to what was compared; a live trial that misses its deadlines goes back.

        Args:
            of: the bundle; nothing is added where another one is on trial. None = whichever is.
        """
        with self._database.change() as change:
            if of is None or _pointer(change, "trial") == of:
                change.execute(
                    "UPDATE trial SET windows = windows + ?, equal = equal + ?, failed = failed + ?, "
                    "late = late + ?, current_ms = current_ms + ?, trial_ms = trial_ms + ?",
                    (windows, equal, failed, late, 1e3 * current_s, 1e3 * trial_s),
                )
        self.settle()

    def settle(self) -> None:
        """Take back what is overdue, late or crashed, and bring the link in line with the pointers."""
        trial = self.trial()
        if trial is not None and (reason := self._why_back(trial)):
            # Of several processes that find it so, one ends it; the others must not go back further.
            self.end_trial(trial.sha256, reason)
        else:
            self._publish()

    def enter(self, sha256: str) -> None:
        """This process answers with a bundle; if it dies before `leave`, a live trial goes back."""
        with self._database.change() as change:
            change.execute(
                "INSERT OR REPLACE INTO process VALUES (?, ?, ?)", (*_process(os.getpid()), sha256)
            )

    def leave(self) -> None:
        """This process ends in order."""
        with self._database.change() as change:
            change.execute("DELETE FROM process WHERE pid = ?", (os.getpid(),))

    def close(self) -> None:
        self._database.close()

    def _why_back(self, trial: Trial) -> str:
        if self._now() >= trial.deadline:
            return "not confirmed by its deadline"
        is_late = trial.windows >= FEWEST_WINDOWS and trial.late > MOST_LATE * trial.windows
        if trial.mode == "live" and is_late:
            return f"{trial.late} of {trial.windows} windows missed the deadline"
        rows = self._database.read("SELECT * FROM process WHERE sha256 = ?", trial.sha256)
        if any(_process(row["pid"]) != (row["pid"], row["start"]) for row in rows):
            return "a process that ran it crashed"
        return ""

    def _publish(self) -> None:
        """Let `current.edgesparse` lead to the bundle that answers, in one step."""
        try:
            sha256 = self.answering()
        except InputError:
            return
        link, target = self.folder / LINK, f"store/{sha256}{SUFFIX}"
        if link.is_symlink() and os.readlink(link) == target:
            return
        fresh = self.folder / f".{LINK}.{secrets.token_hex(8)}"
        fresh.symlink_to(target)
        os.replace(fresh, link)


def is_store(path: Path) -> bool:
    """Is there a rollout store?"""
    return (path / FILE).is_file()


def _end_trial(change: sqlite3.Connection) -> None:
    change.execute("DELETE FROM pointer WHERE name = 'trial'")
    change.execute("DELETE FROM trial")
    change.execute("DELETE FROM process")


def _pointer(change: sqlite3.Connection, name: str) -> str:
    row = change.execute("SELECT sha256 FROM pointer WHERE name = ?", (name,)).fetchone()
    return str(row[0]) if row else ""


def _note(change: sqlite3.Connection, now: float, action: str, sha256: str, detail: str) -> None:
    change.execute(
        "INSERT INTO audit (time, action, sha256, detail) VALUES (?, ?, ?, ?)", (now, action, sha256, detail)
    )


def _text(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _process(pid: int) -> tuple[int, str]:
    """A process and when it began: numbers are used again. "" = it is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return pid, ""
    fields = stat.rpartition(")")[2].split()
    return pid, "" if fields[0] == "Z" else fields[19]
