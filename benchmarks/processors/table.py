"""`python -m benchmarks.processors.table RESULT.json`: milliseconds by model and instruction set.

The ratios in brackets are how many times faster than with AVX2.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BASE = "avx2"
FIGURE = ".3g"


def tables(found: dict[str, dict[str, Any]]) -> Iterator[str]:
    """A table per kind of model: attention, linear, encoder, whole."""
    times: dict[str, dict[str, float]] = {}
    for key, entry in found.items():
        worker, model = key.split(" ", 1)
        times.setdefault(model, {})[worker] = entry["ms"]
    kinds = dict.fromkeys(model.split("_")[0] for model in times)
    for kind in kinds:
        rows = {model: row for model, row in times.items() if model.split("_")[0] == kind}
        workers = list(dict.fromkeys(worker for row in rows.values() for worker in row))
        lines = [["model", *workers], ["---"] * (1 + len(workers))]
        lines += [[model, *(_cell(row, worker) for worker in workers)] for model, row in rows.items()]
        yield "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(row: dict[str, float], worker: str) -> str:
    if worker not in row:
        return ""
    over = f" ({row[BASE] / row[worker]:.2f}x)" if BASE in row and worker != BASE else ""
    return f"{row[worker]:{FIGURE}}{over}"


def main() -> int:
    """Prints the tables of the named files."""
    if len(sys.argv) < 2:
        print(__doc__, file=sys.stderr)
        return 2
    for path in sys.argv[1:]:
        result = json.loads(Path(path).read_text())
        print(f"{result['machine']['cpu']}, {result['command']}\n")
        print("\n\n".join(tables(result["found"])), end="\n\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
