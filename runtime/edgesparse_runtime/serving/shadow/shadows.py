"""`Shadows`: finds the trials of the stores that are served from, and compares on each model's requests."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgesparse_runtime.errors import EdgeSparseError
from edgesparse_runtime.operation.rollout.store import LINK, Store, Trial, is_store
from edgesparse_runtime.serving.batching import Scored
from edgesparse_runtime.serving.log import log
from edgesparse_runtime.serving.served_model import ServedModel
from edgesparse_runtime.serving.served_text import ServedText
from edgesparse_runtime.serving.settings import Settings
from edgesparse_runtime.serving.shadow.runner import Runner

# Seconds between two lines of one shadow.
_LOG_EVERY = 60.0
# Seconds after a run until the shadow gets its windows: the answers have left by then.
_AFTER = 0.002
_Key = tuple[str, str]


@dataclass
class Shadow:
    """One trial beside one model.

    Attributes:
        champion: sha256 of the bundle that answers.
        sha256: of the bundle on trial; began: its trial, seconds since 1970.
    """

    folder: Path
    champion: str
    sha256: str
    began: float
    runner: Runner
    logged: float = 0.0

    def facts(self) -> dict[str, Any]:
        """What was found since the server has run it, means by window."""
        counts = self.runner.counts
        compared = max(1, counts.windows - counts.failed)
        found = {"queued_runs": self.runner.queued, "dropped": self.runner.dropped, **asdict(counts)}
        del found["current_s"], found["trial_s"], found["difference"]
        return found | {
            "current_ms": 1e3 * counts.current_s / compared,
            "trial_ms": 1e3 * counts.trial_s / compared,
            "difference": counts.difference / compared,
        }


class Shadows:
    """The shadows of a server; `look` and `close` are called from one thread, `ran` from the event loop."""

    def __init__(self, settings: Settings, now: Callable[[], float] = time.monotonic) -> None:
        self._settings, self._now = settings, now
        self._shadows: dict[_Key, Shadow] = {}
        self._problems: dict[_Key, str] = {}

    def ran(self, model: ServedModel, scored: Scored) -> None:
        """Let the shadow of a model have what it has answered."""
        shadow = self._shadows.get((model.address.name, model.address.version))
        if shadow is not None and shadow.champion == model.bundle_hash:
            # The last column is how unlike training a window is, where the model tells.
            end = None if model.session.unknown_threshold is None else -1
            scores = [found[:, :end] for found in scored.scores]
            loop = asyncio.get_running_loop()
            loop.call_later(_AFTER, shadow.runner.offer, scored._replace(scores=scores))

    def look(self, models: list[ServedModel]) -> None:
        """Write down what was compared, and follow the stores: begin and end shadows."""
        for model in models:
            folder = model.address.path.parent
            if model.address.path.name != LINK or not is_store(folder) or isinstance(model, ServedText):
                continue
            key = model.address.name, model.address.version
            try:
                self._follow(key, folder, model)
                self._problems.pop(key, None)
            except (EdgeSparseError, OSError) as error:
                # Answers do not wait for a store; it is said once.
                if self._problems.get(key) != str(error):
                    self._problems[key] = str(error)
                    log("shadow", model=key[0], version=key[1], message=f"store not followed: {error}")

    def all(self) -> Iterator[tuple[_Key, Shadow]]:
        """The shadows that run, by name and version."""
        yield from list(self._shadows.items())

    def close(self) -> None:
        """Write down what was compared, and end all shadows."""
        for key, shadow in list(self._shadows.items()):
            try:
                store = Store(shadow.folder)
                _write(shadow, store)
                store.close()
            except (EdgeSparseError, OSError) as error:
                log("shadow", model=key[0], version=key[1], message=f"not written: {error}")
            self._end(key, shadow, "the server stops")

    def _follow(self, key: _Key, folder: Path, model: ServedModel) -> None:
        shadow = self._shadows.get(key)
        store = Store(folder)
        try:
            if shadow is not None:
                # The counts first: whoever ends the trial next reads them.
                _write(shadow, store)
                if shadow.runner.problem:
                    store.end_trial(shadow.sha256, shadow.runner.problem)
            trial = store.trial()
            is_on = trial is not None and trial.mode == "shadow"
            if shadow is not None and not (trial and is_on and _is_of(shadow, trial, model)):
                self._end(key, shadow, _outcome(store, shadow.sha256))
                shadow = None
            if shadow is None and trial is not None and is_on:
                if model.bundle_hash == store.pointer("current"):
                    self._begin(key, folder, model, trial, store.path(trial.sha256))
            elif shadow is not None and self._now() - shadow.logged >= _LOG_EVERY:
                self._log(key, shadow, "compares")
        finally:
            store.close()

    def _begin(self, key: _Key, folder: Path, model: ServedModel, trial: Trial, path: Path) -> None:
        runner = Runner(path, self._settings)
        shadow = Shadow(folder, model.bundle_hash, trial.sha256, trial.began, runner)
        self._shadows[key] = shadow
        self._log(key, shadow, "begins")

    def _end(self, key: _Key, shadow: Shadow, why: str) -> None:
        del self._shadows[key]
        shadow.runner.stop()
        self._log(key, shadow, f"ends: {why}")

    def _log(self, key: _Key, shadow: Shadow, message: str) -> None:
        shadow.logged = self._now()
        facts = {name: round(value, 6) for name, value in shadow.facts().items()}
        log("shadow", model=key[0], version=key[1], trial=shadow.sha256, message=message, **facts)


def _is_of(shadow: Shadow, trial: Trial, model: ServedModel) -> bool:
    found = shadow.sha256, shadow.began, shadow.champion
    return found == (trial.sha256, trial.began, model.bundle_hash)


def _write(shadow: Shadow, store: Store) -> None:
    counts = shadow.runner.take()
    try:
        counts.write(store, shadow.sha256)
    except BaseException:
        shadow.runner.put_back(counts)
        raise


def _outcome(store: Store, sha256: str) -> str:
    """The last word of the store's audit on a bundle."""
    rows = [row for row in store.audit() if row["sha256"] == sha256 and row["action"] != "current"]
    return f"{rows[-1]['action']} {rows[-1]['detail']}".strip() if rows else "another model answers"
