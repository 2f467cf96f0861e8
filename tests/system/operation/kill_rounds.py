"""Verbs that write, ended at random moments: by kill -9, or by a disk that is full.

`python -m tests.system.operation.kill_rounds FOLDER kill|full COUNT VERBS` prints what was found as JSON. It
runs in a process of its own that opens no session itself, since a fork would lack its threads.
"""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import signal
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import edgesparse_runtime.session  # noqa: F401 - so that children need not import it
from edgesparse_runtime.bundle.read import all_files, open_bundle
from edgesparse_runtime.cli.app import run
from edgesparse_runtime.operation.rollout.store import LINK, Store

# Larger than any file that a verb writes here, in bytes.
MOST_BYTES = 10**6


@dataclass
class Found:
    """What the rounds left.

    Attributes:
        killed: rounds in which the verb was still at work.
        champions: hashes of the bundle that `monitor learn` replaces.
        challengers: rounds after which a challenger was there, each whole.
        refused: verb, exit code and what was printed, where a full disk ended it.
        left: entries of the folder after a last undisturbed round.
    """

    killed: int = 0
    champions: set[str] = field(default_factory=set)
    challengers: int = 0
    refused: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)


class Rounds:
    """Runs verbs in `folder`, which has `champion.edgesparse` and a `store` with a current bundle."""

    def __init__(self, folder: Path, verbs: dict[str, list[str]]) -> None:
        self._folder, self._verbs = folder, verbs
        self._seconds: dict[str, float] = {}
        self.found = Found()
        self._output = os.open(os.devnull, os.O_RDONLY)

    def undisturbed(self) -> None:
        """Each verb once, to its end; a trial that a killed verb began is ended before."""
        store = Store(self._folder / "store")
        if store.trial() is not None:
            store.back("by hand")
        store.close()
        for verb in self._verbs:
            began = time.monotonic()
            status = os.waitpid(self._begin(verb), 0)[1]
            if status:
                raise SystemExit(f"{verb} ended with {status}: {self._printed()}")
            self._seconds[verb] = time.monotonic() - began

    def kill(self, verb: str, chance: random.Random) -> None:
        """kill -9 somewhere between its start and its end."""
        child = self._begin(verb)
        time.sleep(chance.uniform(0, 1.1 * self._seconds[verb]))
        os.kill(child, signal.SIGKILL)
        self.found.killed += os.WIFSIGNALED(os.waitpid(child, 0)[1])
        self._check()

    def fill(self, verb: str, chance: random.Random) -> None:
        """No file may grow beyond a random size."""
        child = self._begin(verb, most_bytes=int(MOST_BYTES ** chance.uniform(0.3, 1)))
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if code:
            self.found.refused.append(f"{verb} {code}: {self._printed().strip()}")
        self._check()

    def _begin(self, verb: str, most_bytes: int | None = None) -> int:
        os.close(self._output)
        # A pipe holds what a verb prints, also where no file may grow.
        self._output, printed = os.pipe()
        if verb == "update":
            shutil.rmtree(self._folder / "challenger.edgesparse", ignore_errors=True)
        child = os.fork()
        if child:
            os.close(printed)
            return child
        code = 99
        try:
            os.chdir(self._folder)
            os.dup2(printed, 1)
            os.dup2(printed, 2)
            if most_bytes is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))
            code = run(self._verbs[verb])
            sys.stdout.flush()
        finally:
            os._exit(code)

    def _printed(self) -> str:
        return os.read(self._output, 1 << 16).decode(errors="replace")

    def _check(self) -> None:
        """Reading a file compares its hash."""
        champion = open_bundle(self._folder / "champion.edgesparse")
        all_files(champion)
        self.found.champions.add(champion.sha256)
        challenger = self._folder / "challenger.edgesparse"
        if challenger.exists():
            all_files(open_bundle(challenger))
            self.found.challengers += 1
        store = Store(self._folder / "store")
        answers = open_bundle(self._folder / "store" / LINK)
        all_files(answers)
        assert answers.sha256 == store.answering()
        store.close()


def main() -> None:
    folder, how, count, verbs = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), json.loads(sys.argv[4])
    rounds, chance = Rounds(folder, verbs), random.Random(0)
    rounds.undisturbed()
    for i in range(count):
        (rounds.kill if how == "kill" else rounds.fill)(list(verbs)[i % len(verbs)], chance)
    rounds.undisturbed()
    rounds.found.left = sorted(path.name for path in folder.iterdir())
    print(json.dumps(asdict(rounds.found) | {"champions": len(rounds.found.champions)}))


if __name__ == "__main__":
    main()
