"""Intervals count machines and recordings, not their windows; every group and the worst one are shown."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from edgesparse_runtime.bundle.read import Bundle
from edgesparse_runtime.data.series_set import Grid, SeriesSet
from edgesparse_runtime.errors import InputError
from edgesparse_runtime.evaluation.evaluate import by_group, evaluate, independent_groups
from edgesparse_runtime.evaluation.metrics import (
    accuracy,
    balanced_accuracy,
    interval_text,
    mean_absolute_error,
    recalls,
)
from edgesparse_runtime.session import Session


def test_windows_of_one_machine_are_not_independent() -> None:
    machines = np.repeat(["P1", "P2", "P3"], 150)
    right = np.concatenate([np.arange(150) < k for k in (144, 125, 124)])
    alone, grouped = accuracy(right), accuracy(right, machines)
    assert alone.value == grouped.value
    assert alone.high - alone.low < 0.07
    assert (round(grouped.low, 3), round(grouped.high, 3)) == (0.827, 0.96)
    assert str(grouped) == "0.873 [0.827, 0.960] (n=450 in 3 groups)"


def test_one_machine_has_no_interval() -> None:
    found = accuracy(np.array([True, False, True]), np.array(["P1"] * 3))
    assert math.isnan(found.low)
    assert str(found) == "0.667 (n=3 in 1 group: no interval)"
    assert json.loads(json.dumps(found.to_dict()))["low"] is None


def test_other_metrics_count_groups_too() -> None:
    truth = np.array(["a", "b"] * 6)
    decided = np.array(["a"] * 6 + ["a", "b"] * 3)
    clusters = np.repeat(["x", "y"], 6)
    found = balanced_accuracy(truth, decided, clusters)
    assert (found.value, found.low, found.high, found.groups) == (0.75, 0.5, 1.0, 2)
    error = mean_absolute_error(np.zeros(4), np.array([1.0, 1, 3, 3]), np.array(["x", "x", "y", "y"]))
    assert (error.value, error.low, error.high) == (2.0, 1.0, 3.0)


def test_classes_and_groups_count_what_is_independent() -> None:
    """Ninety windows of two machines are no ninety trials, of a class either."""
    machines, recordings = np.repeat(["P1", "P2"], 90), np.repeat(["1", "2", "3", "4"], 45)
    truth = np.array(["a", "b"] * 90)
    decided = truth.copy()
    decided[90:] = "a"
    found = recalls(truth, decided, machines)
    assert (found["b"].value, found["b"].low, found["b"].high, found["b"].groups) == (0.5, 0.0, 1.0, 2)
    assert interval_text(recalls(truth[:90], decided[:90], machines[:90])["a"]) == "none"
    assert interval_text(recalls(truth[:90], decided[:90])["a"]) == "[0.92, 1.00]"
    scores = np.stack([decided == "a", decided == "b"], axis=1).astype(np.float64)
    groups = by_group(scores, truth, machines, ("a", "b"), recordings)
    assert [(name, m.n, m.groups) for name, m in groups.items()] == [("P2", 90, 2), ("P1", 90, 2)]
    alone = by_group(scores, truth, recordings, ("a", "b"), recordings)
    assert math.isnan(alone["4"].low) and interval_text(alone["4"]) == "none"


def test_every_group_and_the_worst_first(shared_bundle: Bundle, series: SeriesSet) -> None:
    assert series.labels is not None
    labels = series.labels.copy()
    labels[24:30] = "slow"
    data = replace(series, labels=labels, groups=np.repeat(["P1", "P2", "P3"], 12))
    result = evaluate(Session(shared_bundle), data)
    assert next(iter(result.groups)) == "P3"
    assert result.groups["P1"].value == 1.0
    assert result.groups["P3"].value == pytest.approx(0.75)
    assert result.metrics[0].groups == 3
    assert result.to_dict()["worst_group"] == "P3"
    assert evaluate(Session(shared_bundle), series).groups == {}


def test_recordings_stand_in_for_machines(series: SeriesSet) -> None:
    """Windows of one recording may overlap."""
    recordings = np.repeat(["1", "2"], 18)
    whole = replace(series, recordings=recordings)
    assert independent_groups(whole) is None
    cut = replace(whole, grid=Grid(window=100, stride=50))
    assert independent_groups(cut) is recordings


def test_labels_may_differ_in_case_where_that_leaves_no_doubt(
    shared_bundle: Bundle, series: SeriesSet
) -> None:
    assert series.labels is not None
    session = Session(shared_bundle)
    upper = replace(series, labels=np.char.upper(series.labels))
    assert evaluate(session, upper).metrics == evaluate(session, series).metrics
    both = replace(series, labels=np.where(np.arange(36) < 4, np.char.upper(series.labels), series.labels))
    with pytest.raises(InputError, match="must hold classes that the model knows"):
        evaluate(session, both)
