"""Quotas as version 1 and version 2 of control groups state them."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgesparse_runtime.machine.cgroup import cgroup_quota, throttling


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_a_container_s_own_quota(tmp_path: Path) -> None:
    member = write(tmp_path / "member", "0::/\n")
    write(tmp_path / "fs" / "cpu.max", "150000 100000\n")
    assert cgroup_quota(tmp_path / "fs", member) == 1.5
    write(tmp_path / "fs" / "cpu.max", "max 100000\n")
    assert cgroup_quota(tmp_path / "fs", member) is None


def test_the_smallest_quota_above_counts(tmp_path: Path) -> None:
    """A systemd service: its slice may hold it tighter than itself."""
    member = write(tmp_path / "member", "0::/line.slice/pump.service\n")
    write(tmp_path / "fs" / "line.slice" / "pump.service" / "cpu.max", "400000 100000\n")
    write(tmp_path / "fs" / "line.slice" / "cpu.max", "200000 100000\n")
    write(tmp_path / "fs" / "line.slice" / "pump.service" / "cpu.stat", "nr_throttled 3\nthrottled_usec 70\n")
    assert cgroup_quota(tmp_path / "fs", member) == 2.0
    assert throttling(tmp_path / "fs", member) == {"periods": 3, "microseconds": 70}


def test_version_1(tmp_path: Path) -> None:
    member = write(tmp_path / "member", "4:memory:/x\n3:cpu,cpuacct:/docker/abc\n")
    group = tmp_path / "fs" / "cpu" / "docker" / "abc"
    write(group / "cpu.cfs_quota_us", "50000\n")
    write(group / "cpu.cfs_period_us", "100000\n")
    write(group / "cpu.stat", "nr_periods 9\nnr_throttled 2\nthrottled_time 5000\n")
    assert cgroup_quota(tmp_path / "fs", member) == 0.5
    assert throttling(tmp_path / "fs", member) == {"periods": 2, "microseconds": 5}
    write(group / "cpu.cfs_quota_us", "-1\n")
    assert cgroup_quota(tmp_path / "fs", member) is None


@pytest.mark.parametrize("text", ["", "junk\n", "0::/../../etc\n"])
def test_what_cannot_be_read_is_no_quota(tmp_path: Path, text: str) -> None:
    assert cgroup_quota(tmp_path / "none", write(tmp_path / "member", text)) is None
    assert throttling(tmp_path / "none", tmp_path / "none") is None
