"""A rollout store: one valid bundle is current whatever dies when, and a trial goes back by itself."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import time
from pathlib import Path

import pytest

from edgesparse_runtime.bundle.read import Bundle, open_bundle
from edgesparse_runtime.bundle.write import copy_bundle
from edgesparse_runtime.errors import BundleError, GateError, InputError
from edgesparse_runtime.operation.rollout.comparison import Counts
from edgesparse_runtime.operation.rollout.database import FILE
from edgesparse_runtime.operation.rollout.store import LINK, Store

KILLS = int(os.environ.get("EDGESPARSE_KILLS", "15"))


class Clock:
    def __init__(self) -> None:
        self.now = 1.8e9

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def releases(shared_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> list[Bundle]:
    """Four bundles with rising release numbers."""
    folder: Path = tmp_path_factory.mktemp("releases")
    return [copy_bundle(shared_bundle, folder / f"r{i}.edgesparse", {}, {"release": i}) for i in range(1, 5)]


@pytest.fixture
def store(releases: list[Bundle], tmp_path: Path) -> Store:
    """A store whose first bundle is release 1."""
    opened = Store(tmp_path / "store", create=True, now=Clock())
    assert opened.begin(releases[0], "live", 60) == "current"
    return opened


def current(folder: Path) -> str:
    """What a server that follows the link opens."""
    return open_bundle(folder / LINK).sha256


def actions(store: Store) -> list[str]:
    return [row["action"] for row in store.audit()]


def test_a_live_trial_answers_until_its_deadline(store: Store, releases: list[Bundle]) -> None:
    assert store.begin(releases[1], "live", 60) == "trial"
    assert current(store.folder) == store.answering() == releases[1].sha256
    assert store.pointer("current") == releases[0].sha256
    store._now.now += 61  # type: ignore[attr-defined]
    store.settle()
    assert current(store.folder) == store.answering() == releases[0].sha256 and store.trial() is None
    assert actions(store) == ["first", "try", "back"]
    assert store.audit()[-1]["detail"] == "not confirmed by its deadline"


def test_a_confirmed_trial_stays_and_can_go_back(store: Store, releases: list[Bundle]) -> None:
    store.begin(releases[1], "live", 60)
    store.accept("confirm")
    store._now.now += 1_000  # type: ignore[attr-defined]
    store.settle()
    assert current(store.folder) == releases[1].sha256 and store.pointer("previous") == releases[0].sha256
    store.back("by hand")
    assert current(store.folder) == releases[0].sha256
    with pytest.raises(InputError, match="no previous bundle"):
        store.back("by hand")
    # What was current once cannot come back as a trial.
    with pytest.raises(GateError, match="above 2, the highest that was current; it has 2"):
        store.begin(releases[1], "live", 60)


def test_a_shadow_answers_nothing(store: Store, releases: list[Bundle]) -> None:
    store.begin(releases[1], "shadow", 60)
    assert current(store.folder) == store.answering() == releases[0].sha256
    store.count(200, 190, 1, 100, 0.4, 0.2)
    trial = store.trial()
    assert trial is not None and (trial.windows, trial.equal, trial.failed) == (200, 190, 1)
    assert (trial.current_ms, trial.trial_ms) == pytest.approx((2.0, 1.0))
    with pytest.raises(InputError, match="a trial is on already"):
        store.begin(releases[2], "shadow", 60)


def test_missed_deadlines_take_a_live_trial_back(store: Store, releases: list[Bundle]) -> None:
    store.begin(releases[1], "live", 60)
    store.count(99, 0, 0, 50, 0, 0)
    assert store.trial() is not None
    store.count(1, 0, 0, 0, 0, 0)
    assert store.trial() is None and "missed the deadline" in store.audit()[-1]["detail"]


def test_two_that_find_a_trial_overdue_go_back_once(store: Store, releases: list[Bundle]) -> None:
    """A stream and a server settle at the same time: the second one must not go back to `previous`."""
    store.begin(releases[1], "live", 60)
    store.accept("confirm")
    store.begin(releases[2], "shadow", 60)
    other = Store(store.folder, now=store._now)
    before = other.trial()
    assert before is not None
    store._now.now += 61  # type: ignore[attr-defined]
    other.trial = lambda: before  # type: ignore[method-assign]
    store.settle()
    other.settle()
    assert current(store.folder) == store.answering() == releases[1].sha256
    assert actions(store)[-1] == "back" and actions(store).count("back") == 1
    assert not store.end_trial(releases[2].sha256, "again") and not store.end_trial("", "none")


def test_counts_of_a_trial_that_has_ended_are_not_the_next_ones(store: Store, releases: list[Bundle]) -> None:
    store.begin(releases[1], "shadow", 60)
    store.back("by hand")
    store.begin(releases[2], "shadow", 60)
    Counts(windows=5, equal=5).write(store, releases[1].sha256)
    Counts(windows=2, equal=1).write(store, releases[2].sha256)
    trial = store.trial()
    assert trial is not None and (trial.windows, trial.equal) == (2, 1)


def test_a_crash_takes_a_trial_back(store: Store, releases: list[Bundle]) -> None:
    store.begin(releases[1], "live", 60)
    child = os.fork()
    if child == 0:
        Store(store.folder, now=store._now).enter(releases[1].sha256)
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    store.settle()
    assert store.trial() is None and store.audit()[-1]["detail"] == "a process that ran it crashed"


def test_a_process_that_ends_in_order_is_no_crash(store: Store, releases: list[Bundle]) -> None:
    store.begin(releases[1], "live", 60)
    store.enter(releases[1].sha256)
    store.settle()
    store.leave()
    store.settle()
    assert store.trial() is not None


def test_what_is_lower_expired_or_other_is_refused(
    store: Store, releases: list[Bundle], tmp_path: Path
) -> None:
    store.begin(releases[2], "live", 60)
    store.accept("confirm")
    with pytest.raises(GateError, match="must have a release number above 3"):
        store.begin(releases[1], "live", 60)
    with pytest.raises(InputError, match="is current already"):
        store.begin(releases[2], "live", 60)
    ended = {"release": 9, "expires": "2020-01-01T00:00:00Z"}
    with pytest.raises(GateError, match="has expired"):
        store.begin(copy_bundle(releases[0], tmp_path / "old.edgesparse", {}, ended), "live", 60)
    other = {"release": 9, "classes": ["a", "b"]}
    with pytest.raises(InputError, match="channels and classes of the current bundle"):
        store.begin(copy_bundle(releases[0], tmp_path / "other.edgesparse", {}, other), "live", 60)
    assert current(store.folder) == releases[2].sha256


def test_kill_9_leaves_one_valid_bundle(store: Store, releases: list[Bundle]) -> None:
    """Changes in a process that is killed at random moments."""
    chance = random.Random(0)
    store.close()
    for _ in range(KILLS):
        child = os.fork()
        if child == 0:
            _change_forever(store.folder, releases)
        time.sleep(chance.uniform(0, 0.2))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        opened = open_bundle(store.folder / LINK)
        again = Store(store.folder, now=store._now)
        assert opened.sha256 in {bundle.sha256 for bundle in releases}
        assert open_bundle(again.path(again.pointer("current"))).sha256 == again.pointer("current")
        assert current(store.folder) == again.answering()
        assert (again.trial() is None) == (again.pointer("trial") == "")
        assert not list((store.folder / "store").glob("*.tmp"))
        again.close()
    assert {"try", "confirm", "rollback"} <= {row["action"] for row in Store(store.folder).audit(100_000)}


def _change_forever(folder: Path, releases: list[Bundle]) -> None:
    try:
        opened = Store(folder)
        opened.check = lambda bundle: (bundle.manifest["release"], "")  # type: ignore[method-assign]
        while True:
            for bundle in releases:
                if opened.trial() is not None:
                    opened.back("by hand")
                if opened.pointer("current") != bundle.sha256:
                    opened.begin(bundle, "live", 1e9)
                    opened.accept("confirm")
                    opened.back("by hand")
                    opened.begin(bundle, "shadow", 1e9)
    finally:
        os._exit(1)


def test_a_full_disk_or_a_damaged_file_is_one_error(
    store: Store, releases: list[Bundle], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device", "store")

    monkeypatch.setattr("edgesparse_runtime.operation.rollout.store.store_files", full)
    with pytest.raises(OSError, match="No space left"):
        store.begin(releases[1], "live", 60)
    assert store.trial() is None and current(store.folder) == releases[0].sha256
    monkeypatch.undo()
    # SQLite's own word for a full disk.
    store._database._connection.execute("PRAGMA max_page_count=1")
    with pytest.raises(OSError, match="full"):
        _fill(store)
    assert Store(store.folder).pointer("current") == releases[0].sha256
    (store.folder / FILE).write_bytes(b"no database at all" * 100)
    with pytest.raises(BundleError, match="must be a rollout store"):
        Store(store.folder)


def _fill(store: Store) -> None:
    for i in range(500):
        with store._database.change() as change:
            change.execute("INSERT INTO process VALUES (?, '', ?)", (-i, "0" * 4_000))


def test_a_newer_store_is_refused(store: Store) -> None:
    store.close()
    connection = sqlite3.connect(store.folder / FILE)
    connection.execute("PRAGMA user_version=2")
    connection.close()
    with pytest.raises(BundleError, match="must be of version 1; it is of 2"):
        Store(store.folder)
    with pytest.raises(InputError, match="no such store"):
        Store(store.folder.parent / "none")
