"""Cross-validation by group, and a model that is trained on all series after it was measured."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgesparse.training import cross_fit
from edgesparse.training.cross_fit import FOLDS_FILE, cross_validate
from edgesparse.training.run_folder import load_run
from edgesparse.training.supervised import fit_labeled
from edgesparse.training.train import train
from edgesparse_runtime.cli.app import run as command
from edgesparse_runtime.data.series_set import SeriesSet
from edgesparse_runtime.errors import InputError
from tests.support.synthetic import make_series, tiny_config


def machines(count: int, names: int) -> SeriesSet:
    data = make_series(count)
    return replace(data, groups=np.array([f"P{1 + i // 2 % names}" for i in range(count)]))


def test_the_odd_machine_shows_and_the_interval_is_over_machines() -> None:
    """The third machine's labels are the wrong way round, so no model of the others fits it."""
    data = machines(36, 3)
    labels = np.asarray(data.labels).copy()
    third = data.groups == "P3"
    labels[third] = np.where(labels[third] == "fast", "slow", "fast")
    found = cross_validate(replace(data, labels=labels), tiny_config(epochs=15), quiet=True)
    assert {name: metric.n for name, metric in found.groups.items()} == {"P1": 12, "P2": 12, "P3": 12}
    assert found.folds == 3 and not found.left_out
    assert found.groups["P3"].value <= 0.3
    assert found.overall.value == pytest.approx(np.mean([m.value for m in found.groups.values()]))
    # Groups count, not series: one of three machines is unlike the others.
    assert found.overall.low <= min(m.value for m in found.groups.values()) + 1e-9


def test_without_groups_or_a_second_class_there_is_nothing_to_measure() -> None:
    data = make_series(8)
    with pytest.raises(InputError, match="two classes besides"):
        cross_validate(replace(data, groups=np.asarray(data.labels)), tiny_config(epochs=1), quiet=True)
    with pytest.raises(InputError, match="at least two groups"):
        cross_validate(data, tiny_config(epochs=1), quiet=True)


def test_a_stopped_cross_validation_resumes_after_the_stored_folds(tmp_path: Path) -> None:
    data, config = machines(8, 2), tiny_config(epochs=1, min_steps=1)
    whole = cross_validate(data, config, quiet=True)

    def stop(text: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cross_validate(data, config, out=tmp_path, quiet=True, say=stop)
    stored = json.loads((tmp_path / FOLDS_FILE).read_text())
    assert list(stored["folds"]) == ["0"]
    trained: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cross_fit, "fit_labeled", lambda *a, **k: trained.append(1) or fit_labeled(*a, **k))
        assert cross_validate(data, config, out=tmp_path, resume=True, quiet=True) == whole
        assert len(trained) == 1
    other = tiny_config(epochs=2, min_steps=1)
    with pytest.raises(InputError, match="another configuration or other data"):
        cross_validate(data, other, out=tmp_path, resume=True, quiet=True)


def test_refit_trains_on_all_and_keeps_what_was_measured(tmp_path: Path) -> None:
    data = machines(30, 3)
    config = tiny_config(epochs=2, validation_share=0.3)
    plain = train(data, config, tmp_path / "plain", quiet=True)
    assert len(plain.report["held_out"]["groups"]) == 1
    run = train(data, config, tmp_path / "run", refit=True, quiet=True)
    assert run.report["metrics"]["validation"] == plain.report["metrics"]["validation"]
    assert run.report["metrics"]["training"]["n"] == run.facts.series == 30
    again = load_run(tmp_path / "run")
    assert again.report["refit"] and again.report["held_out"] == plain.report["held_out"]
    with pytest.raises(InputError, match="nothing was held out"):
        train(data, tiny_config(epochs=1), tmp_path / "none", refit=True, quiet=True)


def test_command_line_says_what_is_known_of_new_machines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = machines(16, 2)
    rows = [f"step,series,machine,{','.join(data.channels)},label"]
    assert data.labels is not None and data.groups is not None
    for i, x in enumerate(data.series):
        for k in range(100):
            values = ",".join(f"{v:.3f}" for v in x[:, k])
            rows.append(f"{k},s{i},{data.groups[i]},{values},{data.labels[i]}")
    (tmp_path / "d.csv").write_text("\n".join(rows) + "\n")
    small = ["--epochs", "1", "--set", "model.width=16", "--set", "model.num_heads=2"]
    arguments = ["train", str(tmp_path / "d.csv"), *small, "-o", str(tmp_path / "run")]
    assert command(arguments) == 0
    assert "not measured: nothing was held out" in capsys.readouterr().out
    assert command([*arguments, "--overwrite", "--cross-validate", "machine"]) == 0
    printed = capsys.readouterr().out
    assert "on 2 groups, each by a model trained without it" in printed
    assert printed.index("unseen groups") < printed.index("training series")
    report = json.loads((tmp_path / "run" / "run.json").read_text())["report"]
    assert set(report["cross_validation"]["groups"]) == {"P1", "P2"}
    # Folds are stored until the run is finished.
    assert not (tmp_path / "run" / FOLDS_FILE).exists()
    assert command([*arguments, "--overwrite", "--cross-validate", "machine", "--group-column", "label"]) == 2
    assert "must name the same column" in capsys.readouterr().err
