"""A run folder: what training leaves behind, and what the exporter reads.

```
config.yaml         the resolved configuration
run.json            facts about the data, and the report: compute, heads, metrics
model.safetensors   averaged weights, selection knobs and the stem's thresholds
unknown.safetensors the score of windows unlike all training windows; models with a skip
channel_order.npz   how channels move, which tells exchanged ones; models of several channels
log.jsonl           one line per epoch
```
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import torch
import yaml

from edgesparse.config import RunConfig, config_from_dict
from edgesparse.model.build import build_model
from edgesparse.model.data_facts import DataFacts
from edgesparse.model.transformer import SequenceTransformer
from edgesparse.training.checkpoint import read_tensors, write_tensors
from edgesparse.unknown.score import UnknownScore, from_state
from edgesparse_runtime.bundle.atomic import replace_bytes, replace_text
from edgesparse_runtime.data.sensors.channel_order import FILE as ORDER
from edgesparse_runtime.data.sensors.channel_order import ChannelOrder, read_order
from edgesparse_runtime.errors import BundleError, InputError

CONFIG, RUN, WEIGHTS, LOG = "config.yaml", "run.json", "model.safetensors", "log.jsonl"
UNKNOWN = "unknown.safetensors"


class RunReport(TypedDict):
    """What was measured at the end of training, as plain values.

    Attributes:
        parameters: trained weights.
        budget: share of dense attention's compute that was set; None for a dense model.
        compute: `ComputeReport`, and which series it was `measured_on`.
        heads: `HeadStats` of each head of each sparse layer.
        warnings: heads that look collapsed.
        data_warnings: what is odd about the training series.
        metrics: of the "training" and "validation" series.
        classes: balanced accuracy, recall of each class, and which series they were `measured_on`.
        temperature: `Temperature` of a classifier's scores; None where none was fitted.
        pretraining: `Pretraining`, where there was one.
        held_out: how many series were held out, and the names of their groups.
        cross_validation: `CrossValidation`, where there was one.
        skip: `SkipReport`, where the model has a skip.
        unknown: `UnknownReport`, where the model tells windows unlike all training windows.
        channel_order: `OrderReport`, where exchanged channels are told from those in order.
        choice: `ModelChoice`, where the size of the model was chosen by measurement.
        refit: the weights were trained on all series after they had been measured on held-out ones.
    """

    parameters: int
    budget: float | None
    compute: dict[str, Any]
    heads: list[dict[str, Any]]
    warnings: list[str]
    data_warnings: list[str]
    metrics: dict[str, dict[str, Any]]
    classes: NotRequired[dict[str, Any]]
    temperature: NotRequired[dict[str, Any] | None]
    pretraining: NotRequired[dict[str, Any]]
    held_out: NotRequired[dict[str, Any]]
    cross_validation: NotRequired[dict[str, Any]]
    skip: NotRequired[dict[str, Any]]
    unknown: NotRequired[dict[str, Any]]
    channel_order: NotRequired[dict[str, Any]]
    choice: NotRequired[dict[str, Any]]
    refit: NotRequired[bool]


@dataclass(frozen=True)
class Run:
    """A trained model with its configuration, facts about its data, and what was measured.

    Attributes:
        unknown: tells windows unlike all training windows; None without a skip.
        order: tells exchanged channels; None where training windows do not.
    """

    path: Path
    config: RunConfig
    facts: DataFacts
    model: SequenceTransformer
    report: RunReport
    unknown: UnknownScore | None = None
    order: ChannelOrder | None = None

    @property
    def task(self) -> str:
        return self.config.training.task

    def to_scores(self, output: torch.Tensor) -> torch.Tensor:
        """Model output to scores: probabilities at the fitted temperature, or targets in their own unit."""
        if self.task == "classification":
            temperature = self.report.get("temperature")
            return (output / temperature["value"] if temperature else output).softmax(-1)
        return output * self.facts.target_scale + self.facts.target_center


def save_run(run: Run) -> None:
    """Write everything but the log."""
    run.path.mkdir(parents=True, exist_ok=True)
    write_text(run.path / CONFIG, yaml.safe_dump(run.config.to_dict(), sort_keys=False))
    weights = {name: value.contiguous() for name, value in run.model.state_dict().items()}
    write_tensors(run.path / WEIGHTS, weights, {})
    if run.unknown is None:
        (run.path / UNKNOWN).unlink(missing_ok=True)
    else:
        write_tensors(run.path / UNKNOWN, dict(run.unknown.state_dict()), {})
    if run.order is None:
        (run.path / ORDER).unlink(missing_ok=True)
    else:
        replace_bytes(run.path / ORDER, run.order.to_bytes())
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
            raise InputError(f"{folder} must be a run folder of `edgesparse train`; it has no {name}.")
    try:
        config = config_from_dict(yaml.safe_load((folder / CONFIG).read_text(encoding="utf-8")))
        record = json.loads((folder / RUN).read_text(encoding="utf-8"))
        facts, report = DataFacts(**record["data"]), _with_new_names(record["report"])
        model = build_model(config, facts)
        weights = read_tensors(folder / WEIGHTS)[0]
        # Runs written before version 0.2 spell one module differently.
        model.load_state_dict({name.replace("normalise.", "normalize."): w for name, w in weights.items()})
        unknown = from_state(read_tensors(folder / UNKNOWN)[0]) if (folder / UNKNOWN).exists() else None
        order = None
        if (folder / ORDER).exists():
            order = read_order((folder / ORDER).read_bytes(), str(folder / ORDER), len(facts.channels))
    except (
        yaml.YAMLError,
        ValueError,
        KeyError,
        TypeError,
        RuntimeError,
        UnicodeDecodeError,
        BundleError,
    ) as error:
        raise InputError(f"{folder} is damaged ({str(error).splitlines()[0]}). Train again.") from None
    return Run(folder, config, facts, model.eval(), report, unknown, order)


# Keys of reports written before version 0.2, and their names now.
_RENAMED = {"agreement": "captured_mass", "judged": "held_out"}


def _renamed(values: dict[str, Any]) -> dict[str, Any]:
    return {_RENAMED.get(key, key): value for key, value in values.items()}


def _with_new_names(report: dict[str, Any]) -> RunReport:
    """The report by today's keys: runs written before version 0.2 stay readable."""
    found = dict(report)
    if "calibration" in found:
        old = found.pop("calibration")
        found["temperature"] = old and {
            "value" if key == "temperature" else key: value for key, value in old.items()
        }
    found["heads"] = [_renamed(head) for head in found.get("heads", [])]
    if "pretraining" in found:
        found["pretraining"] = _renamed(found["pretraining"])
    return found  # type: ignore[return-value]


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    replace_text(path, text)
