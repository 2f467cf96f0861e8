"""The default recipe on data sets that packages ship: accuracy over seeds, dense beside sparse.

`python -m benchmarks.learning.recipe --sets ACSF1 OSULeaf --seeds 3` prints a line a run and a summary, and
writes bench-results/recipe.json. Nothing is tuned a set. Sets come from the installed sktime package.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.support.machine import describe_machine
from edgesparse.config import RunConfig, resolve_config
from edgesparse.training.evaluation import evaluate
from edgesparse.training.train import train
from edgesparse_runtime.data.readers import read_dataset
from edgesparse_runtime.data.series_set import SeriesSet


def load(name: str) -> tuple[SeriesSet, SeriesSet]:
    """Training and test series of a set in sktime's data folder."""
    spec = importlib.util.find_spec("sktime")
    if spec is None or spec.origin is None:
        raise SystemExit("This benchmark needs sktime: pip install 'edgesparse[data]'")
    folder = Path(spec.origin).parent / "datasets" / "data" / name
    return read_dataset(folder / f"{name}_TRAIN.ts"), read_dataset(folder / f"{name}_TEST.ts")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sets", nargs="+", default=["ACSF1", "OSULeaf"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--set", dest="settings", action="append", default=[], help="section.key=value")
    parser.add_argument("-o", "--output", type=Path, default=Path("bench-results/recipe.json"))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rows: list[dict[str, Any]] = []
    for name in arguments.sets:
        training, test = load(name)
        for attention in ("dense", "sparse"):
            found = []
            for seed in range(arguments.seeds):
                overrides = [f"model.attention={attention}", f"training.seed={seed}", *arguments.settings]
                config = resolve_config(RunConfig(), None, overrides)
                start = time.monotonic()
                with tempfile.TemporaryDirectory() as folder:
                    run = train(training, config, Path(folder) / "run", quiet=True)
                metric = evaluate(run.model, test, run.facts, config.training)
                found.append(metric.value)
                compute = run.report["compute"]
                rows.append(
                    {
                        "set": name,
                        "attention": attention,
                        "seed": seed,
                        "accuracy": metric.to_dict(),
                        "attention_share": compute["attention_share"],
                        "model_share": compute["model_share"],
                        "seconds": time.monotonic() - start,
                    }
                )
                share = f"{compute['attention_share']:.1%}"
                print(f"{name} {attention} seed {seed}: {metric} attention {share}", flush=True)
            print(f"{name} {attention}: mean {np.mean(found):.3f}, worst {min(found):.3f}", flush=True)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    result = {"machine": describe_machine(arguments.threads), "rows": rows}
    arguments.output.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
