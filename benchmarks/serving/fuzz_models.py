"""Structure-aware fuzzing of model files: every file that passes must be one model to every reader.

    python -m benchmarks.serving.fuzz_models --count 1000000 --seed 1

Prints one JSON object; exit code 1 and the file in hex on a disagreement.
"""

from __future__ import annotations

import argparse
import json
import sys
import time

from tests.support.hostile_models import HOSTILE, honest
from tests.support.model_agreement import check_agreement
from tests.support.model_fuzz import ModelFuzzer

_LARGEST_SEED = 10_000


def main() -> int:
    """Run as many files as were asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=1_000_000, help="files to make")
    parser.add_argument("--seed", type=int, default=0, help="of the random changes")
    parser.add_argument("--open-every", type=int, default=50, help="files per one that onnxruntime opens")
    options = parser.parse_args()
    fuzzer, passed, slowest, start = ModelFuzzer(_seeds(), options.seed), 0, 0.0, time.perf_counter()
    for i in range(options.count):
        content, before = fuzzer.make(), time.process_time()
        found = check_agreement(content, opens=i % options.open_every == 0)
        slowest = max(slowest, time.process_time() - before)
        if found:
            print(json.dumps({"finding": found, "file": content.hex(), "number": i, "seed": options.seed}))
            return 1
        passed += found is None
    seconds = round(time.perf_counter() - start, 1)
    print(json.dumps({"files": options.count, "passed": passed, "slowest_s": slowest, "seconds": seconds}))
    return 0


def _seeds() -> list[bytes]:
    models = [honest() for _ in HOSTILE]
    for model, (change, _) in zip(models, HOSTILE.values(), strict=True):
        change(model)
    hostile = [content for model in models if len(content := model.SerializeToString()) < _LARGEST_SEED]
    return [honest().SerializeToString()] * len(hostile) + hostile


if __name__ == "__main__":
    sys.exit(main())
