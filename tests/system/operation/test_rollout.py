"""`edgesparse rollout`, and streams that follow a store, as a user runs them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from edgesparse_runtime.bundle.read import Bundle, open_bundle
from edgesparse_runtime.bundle.write import copy_bundle
from edgesparse_runtime.operation.rollout.store import LINK
from edgesparse_runtime.serving.addresses import Address
from edgesparse_runtime.serving.registry import Registry
from edgesparse_runtime.serving.settings import Settings
from tests.support.processes import check_one_line, edgesparse
from tests.system.operation.test_monitor import cli, make_recording, to_csv

CUT = ("--window", "100", "--stride", "25")


@pytest.fixture(scope="module")
def releases(shared_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder: Path = tmp_path_factory.mktemp("releases")
    return [
        copy_bundle(shared_bundle, folder / f"r{i}.edgesparse", {}, {"release": i}).path for i in range(1, 4)
    ]


def status(store: Path) -> dict[str, object]:
    done = cli("rollout", "status", "--store", store, "--json")
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout)
    return found


def follow(store: Path, folder: Path) -> dict[str, object]:
    """The last line of a stream of the store's model."""
    source = folder / "stream.csv"
    source.write_text(to_csv(make_recording(1_000)), encoding="utf-8")
    with source.open(encoding="utf-8") as stream:
        done = edgesparse("run", store, "-", "--follow", *CUT, stdin=stream)
    assert done.returncode == 0, done.stderr
    summary: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return summary


def test_from_shadow_over_promotion_to_rollback(releases: list[Path], tmp_path: Path) -> None:
    store = tmp_path / "store"
    first, second = (open_bundle(path).sha256 for path in releases[:2])
    assert cli("rollout", "try", releases[0], "--store", store).returncode == 0
    assert follow(store, tmp_path)["bundle"] == first
    done = cli("rollout", "try", releases[1], "--shadow", "--for", "24h", "--store", store)
    assert done.returncode == 0 and "shadow" in done.stdout, done.stderr
    check_one_line(cli("rollout", "confirm", "--store", store), 2, "must follow a trial that answers")
    check_one_line(cli("rollout", "promote", "--store", store), 3, "at least 100 windows; it has seen 0")
    summary = follow(store, tmp_path)
    assert summary["bundle"] == first
    compared = status(store)["comparison"]
    assert isinstance(compared, dict)
    # The same weights: every decision is the same.
    assert compared["windows"] == compared["equal"] == summary["scores"] == 37 and compared["failed"] == 0
    assert compared["trial_ms"] > 0 and compared["current_ms"] > 0
    assert cli("rollout", "promote", "--least", 30, "--store", store).returncode == 0
    assert follow(store, tmp_path)["bundle"] == second == open_bundle(store / LINK).sha256
    assert cli("rollout", "rollback", "--store", store).returncode == 0
    assert open_bundle(store / LINK).sha256 == first
    audit = status(store)["audit"]
    assert isinstance(audit, list)
    assert [row["action"] for row in audit] == ["first", "try", "promote", "current", "rollback"]
    check_one_line(cli("rollout", "try", releases[1], "--store", store), 3, "release number above 2")


def test_a_live_trial_is_confirmed(releases: list[Path], tmp_path: Path) -> None:
    store = tmp_path / "store"
    cli("rollout", "try", releases[0], "--store", store)
    cli("rollout", "try", releases[1], "--store", store)
    check_one_line(cli("rollout", "promote", "--store", store), 2, "must follow a shadow")
    assert follow(store, tmp_path)["bundle"] == open_bundle(releases[1]).sha256
    assert cli("rollout", "confirm", "--store", store).returncode == 0
    # Files are predicted by what is current, too.
    data = tmp_path / "data.csv"
    data.write_text(to_csv(make_recording(600)), encoding="utf-8")
    assert cli("run", store, data).returncode == 0


def test_a_broken_bundle_is_not_taken(releases: list[Path], tmp_path: Path) -> None:
    store = tmp_path / "store"
    cli("rollout", "try", releases[0], "--store", store)
    golden = dict(open_bundle(releases[0]).golden())
    golden["scores_float32"] = golden["scores_float32"][:, ::-1]
    np.savez(tmp_path / "golden.npz", **golden)  # type: ignore[arg-type]
    files = {"golden.npz": (tmp_path / "golden.npz").read_bytes()}
    broken = copy_bundle(open_bundle(releases[0]), tmp_path / "broken.edgesparse", files, {"release": 7})
    done = cli("rollout", "try", broken.path, "--store", store)
    assert done.returncode == 3 and "must pass its rehearsal" in done.stderr
    assert status(store)["trial"] is None


def test_bad_requests_are_one_line(releases: list[Path], tmp_path: Path) -> None:
    none = ("--store", tmp_path / "none")
    check_one_line(cli("rollout", "status", *none), 2, "no such store")
    check_one_line(cli("rollout", "swap", *none), 2, "must be one of try, status")
    check_one_line(cli("rollout", "try", *none), 2, "must be given one bundle")
    check_one_line(cli("rollout", "status", "more", *none), 2, "must be given nothing more")
    wrong = cli("rollout", "try", releases[0], "--for", "long", *none)
    check_one_line(wrong, 2, "`--for` must be a time")
    check_one_line(cli("rollout", "try", tmp_path / "x.edgesparse", *none), 2, "no such file")


def test_a_server_follows_the_link(releases: list[Path], tmp_path: Path) -> None:
    store = tmp_path / "store"
    cli("rollout", "try", releases[0], "--store", store)
    registry = Registry([Address("pump", "1", store / LINK)], Settings(precision="float32", threads=1))
    assert registry.find("pump", None).bundle_hash == open_bundle(releases[0]).sha256
    cli("rollout", "try", releases[1], "--store", store)
    assert registry.reload_changed()
    assert registry.find("pump", None).bundle_hash == open_bundle(releases[1]).sha256
    cli("rollout", "rollback", "--store", store)
    assert registry.reload_changed()
    assert registry.find("pump", None).bundle_hash == open_bundle(releases[0]).sha256
