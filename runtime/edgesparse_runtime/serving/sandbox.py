"""A new bundle is loaded and run in a process of its own before the server loads it.

Whatever a model file can do to the process that opens it (abort it, exhaust its memory, never return) happens
there. The process has a time limit and, where the system has them, limits on processor time and memory.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edgesparse_runtime.errors import BundleError, EdgeSparseError
from edgesparse_runtime.serving.addresses import Address
from edgesparse_runtime.serving.settings import Settings

SECONDS = 60
MEMORY = 4 << 30


def rehearse(address: Address, settings: Settings) -> str:
    """Load and run the bundle in a separate process.

    Returns:
        `bundle_hash` of what was run. The path may lead to something else by now.

    Raises:
        BundleError: it does not load, does not reproduce its golden scores, or crashes the process.
    """
    request = json.dumps(
        {
            "address": {key: str(value) for key, value in asdict(address).items()},
            "settings": {"precision": settings.precision, "threads": settings.threads},
            "trusted_keys": [str(key) for key in settings.trusted_keys],
        }
    )
    # The same code must be found, installed or run from a source tree.
    paths = os.pathsep.join(p for p in sys.path if p)
    try:
        result = subprocess.run(
            [sys.executable, "-m", __name__, request],
            capture_output=True,
            env=os.environ | {"PYTHONPATH": paths},
            # Ctrl-C is for the server, which waits for its children.
            start_new_session=True,
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise BundleError(f"{address.path} must load and run within {SECONDS} s; it did not.") from None
    if result.returncode == 0:
        return result.stdout.decode("ascii", errors="replace").split()[-1]
    lines = result.stderr.decode(errors="replace").strip().splitlines()
    if result.returncode == BundleError.exit_code and lines:
        raise BundleError(lines[-1])
    end = f"signal {-result.returncode}" if result.returncode < 0 else f"exit {result.returncode}"
    raise BundleError(f"{address.path} crashes the process that loads it ({end}); it is not served.")


def limit_memory() -> None:
    """Let this process have `MEMORY` bytes, where the system has such limits."""
    try:
        import resource
    except ImportError:  # not on Windows
        return
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _limit() -> None:
    try:
        import resource
    except ImportError:  # not on Windows
        return
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    limit_memory()


def main(request: dict[str, Any]) -> int:
    """The work of the separate process."""
    from edgesparse_runtime.serving.served_text import load_any

    _limit()
    address = Address(
        request["address"]["name"], request["address"]["version"], Path(request["address"]["path"])
    )
    try:
        keys = tuple(Path(key) for key in request["trusted_keys"])
        model = load_any(address, Settings(**request["settings"], trusted_keys=keys))
    except EdgeSparseError as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        return BundleError.exit_code
    except MemoryError:
        print(f"{address.path} needs more than {MEMORY >> 30} GiB to load and run.", file=sys.stderr)
        return BundleError.exit_code
    print(model.bundle_hash)
    return 0


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
