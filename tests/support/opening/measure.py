"""Peak memory and CPU time of opening model files, each in a process of its own.

    python -m tests.support.opening.measure [NAME ...]

One process imports everything and forks for each model. Prints JSON: by name, MB above the process without a
model, seconds, and the error if the file was refused.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time

from edgesparse_runtime.errors import BundleError
from edgesparse_runtime.model_check.check import check_model
from edgesparse_runtime.model_check.open import open_session, session_options
from tests.support.opening.costly_models import COSTLY

# An attack that succeeds ends its own process, not the machine.
_MOST_SECONDS = 30


def open_in_a_child(content: bytes | None) -> dict[str, float | str]:
    """The cost of a file; None = of nothing."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, json.dumps(_open(content)).encode())
        os._exit(0)
    os.close(writing)
    _, status, usage = os.wait4(child, 0)
    with os.fdopen(reading, "rb") as answer:
        text = answer.read()
    found = json.loads(text) if text else {"error": f"status {status}", "seconds": float(_MOST_SECONDS)}
    return {**found, "peak_mb": usage.ru_maxrss / 1024}


def _open(content: bytes | None) -> dict[str, float | str]:
    resource.setrlimit(resource.RLIMIT_CPU, (_MOST_SECONDS, _MOST_SECONDS))
    start, error = time.process_time(), ""
    try:
        if content is not None:
            open_session(check_model(content, "model"), "model", session_options(1))
    except BundleError as failure:
        error = str(failure)
    return {"seconds": time.process_time() - start, "error": error}


def main() -> None:
    """Opens the models of these names, or all."""
    nothing = open_in_a_child(None)["peak_mb"]
    found = {}
    for name in sys.argv[1:] or COSTLY:
        content = COSTLY[name]()
        cost = open_in_a_child(content)
        found[name] = {**cost, "peak_mb": float(cost["peak_mb"]) - float(nothing), "bytes": len(content)}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
