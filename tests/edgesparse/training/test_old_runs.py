"""Run folders written before version 0.2 open, predict the same and report by today's words."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
import yaml

from edgesparse.config import RENAMED_KEYS
from edgesparse.training.checkpoint import read_tensors, write_tensors
from edgesparse.training.run_folder import Run, load_run
from edgesparse_runtime.data.series_set import SeriesSet

FACTS = ("window", "stride", "period", "units", "typical", "roles", "notes")


def as_old(run: Run, folder: Path) -> Path:
    """The run as commit 07f76d6 wrote it: keys, tensor names and report."""
    shutil.copytree(run.path, folder)
    old_keys = {section: {new: old for old, new in keys.items()} for section, keys in RENAMED_KEYS.items()}
    config = yaml.safe_load((folder / "config.yaml").read_text())
    config = {
        section: {old_keys[section].get(key, key): value for key, value in values.items()}
        for section, values in config.items()
    }
    assert "kernels" in config["model"] and "steps_at_least" in config["training"]
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    record = json.loads((folder / "run.json").read_text())
    for name in FACTS:
        del record["data"][name]
    report = record["report"]
    for head in report["heads"]:
        head["agreement"] = head.pop("captured_mass")
    del report["temperature"]
    report["calibration"] = {"temperature": 2.0, "fitted_on": "held-out", "n": 20}
    report["pretraining"] = {"series": 9, "judged": 1}
    (folder / "run.json").write_text(json.dumps(record))
    tensors, _ = read_tensors(folder / "model.safetensors")
    write_tensors(
        folder / "model.safetensors",
        {name.replace("normalize.", "normalise."): value for name, value in tensors.items()},
        {},
    )
    return folder


def test_an_old_run_predicts_the_same_bits(tiny_run: Run, series: SeriesSet, tmp_path: Path) -> None:
    old = load_run(as_old(tiny_run, tmp_path / "old"))
    windows = torch.from_numpy(series.to_batch()[:4])
    with torch.no_grad():
        assert torch.equal(old.model(windows), tiny_run.model(windows))
    assert old.config == tiny_run.config
    assert (old.facts.window, old.facts.period, old.facts.units) == (None, None, [])


def test_its_report_has_the_new_words(tiny_run: Run, tmp_path: Path) -> None:
    report = load_run(as_old(tiny_run, tmp_path / "old")).report
    assert report["temperature"] == {"value": 2.0, "fitted_on": "held-out", "n": 20}
    assert report["pretraining"] == {"series": 9, "held_out": 1}
    assert {"captured_mass", "density"} <= set(report["heads"][0])
    old = load_run(tmp_path / "old")
    logits = torch.tensor([[2.0, 0.0]])
    assert torch.equal(old.to_scores(logits), (logits / 2.0).softmax(-1))
