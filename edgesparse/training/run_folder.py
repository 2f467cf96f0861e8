"""A run folder: what training leaves behind, and what the exporter reads.

```
config.yaml         the resolved configuration
run.json            data, classes, compute and metrics
model.safetensors   averaged weights, selection knobs and the stem's thresholds
log.jsonl           one line an epoch
```
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

from edgesparse.config import RunConfig, config_from_dict
from edgesparse.model.build import build_model
from edgesparse.model.data_facts import DataFacts
from edgesparse.model.transformer import SequenceTransformer
from edgesparse.training.checkpoint import read_tensors, write_tensors
from edgesparse_runtime.errors import InputError

CONFIG, RUN, WEIGHTS, LOG = "config.yaml", "run.json", "model.safetensors", "log.jsonl"


@dataclass(frozen=True)
class Run:
    """A trained model with its configuration, data facts and what was measured."""

    path: Path
    config: RunConfig
    facts: DataFacts
    model: SequenceTransformer
    report: dict[str, Any]

    @property
    def task(self) -> str:
        return self.config.training.task

    def to_scores(self, output: torch.Tensor) -> torch.Tensor:
        """Model output to decision scores: calibrated probabilities, or targets in their own unit."""
        if self.task == "classification":
            calibration = self.report.get("calibration")
            return (output / calibration["temperature"] if calibration else output).softmax(-1)
        return output * self.facts.target_scale + self.facts.target_center


def save_run(run: Run) -> None:
    """Write everything but the log."""
    run.path.mkdir(parents=True, exist_ok=True)
    write_text(run.path / CONFIG, yaml.safe_dump(run.config.to_dict(), sort_keys=False))
    weights = {name: value.contiguous() for name, value in run.model.state_dict().items()}
    write_tensors(run.path / WEIGHTS, weights, {})
    record = {"data": asdict(run.facts), "report": run.report}
    write_text(run.path / RUN, json.dumps(record, indent=2) + "\n")


def load_run(path: str | Path) -> Run:
    """Read a run folder.

    Raises:
        InputError: not a run folder, or damaged.
    """
    folder = Path(path)
    for name in (CONFIG, RUN, WEIGHTS):
        if not (folder / name).is_file():
            raise InputError(f"{folder} must be a run folder of `edgesparse train`; {name} is missing.")
    try:
        config = config_from_dict(yaml.safe_load((folder / CONFIG).read_text(encoding="utf-8")))
        record = json.loads((folder / RUN).read_text(encoding="utf-8"))
        facts = DataFacts(**record["data"])
        model = build_model(config, facts)
        weights = read_tensors(folder / WEIGHTS)[0]
        # Runs written before version 0.2 spell one module differently.
        model.load_state_dict({name.replace("normalise.", "normalize."): w for name, w in weights.items()})
    except (yaml.YAMLError, ValueError, KeyError, TypeError, RuntimeError, UnicodeDecodeError) as error:
        raise InputError(f"{folder} is damaged ({str(error).splitlines()[0]}). Train again.") from None
    return Run(folder, config, facts, model.eval(), record["report"])


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    staging = path.with_name(f".{path.name}.new")
    staging.write_text(text, encoding="utf-8")
    staging.replace(path)
