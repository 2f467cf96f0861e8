"""profile and verify on another machine: a real OpenSSH server on loopback, with keys of its own."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgesparse_runtime.bundle.read import Bundle
from edgesparse_runtime.deploying.remote.connection import Target, carried_files, runner_files
from edgesparse_runtime.errors import InputError
from edgesparse_runtime.session import Session
from tests.support.paths import ROOT, SOURCES

SSHD = shutil.which("sshd") or ("/usr/sbin/sshd" if Path("/usr/sbin/sshd").exists() else None)
CONFIG = """
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host
AuthorizedKeysFile {folder}/user.pub
PidFile {folder}/pid
PasswordAuthentication no
UsePAM no
StrictModes no
PermitRootLogin prohibit-password
SetEnv TMPDIR={folder}/far
"""
CLIENT = """
Host *
  IdentityFile {folder}/user
  IdentitiesOnly yes
  UserKnownHostsFile {folder}/known
  StrictHostKeyChecking accept-new
  LogLevel ERROR
"""


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[str, Path]]:
    """The address of a running server, and the folder that is its machine's temporary place."""
    if SSHD is None or shutil.which("ssh-keygen") is None or shutil.which("ssh") is None:
        pytest.skip("no OpenSSH server is installed (Debian: openssh-server)")
    # Not below pytest's folder: a path to a socket or key of sshd must be short and its own.
    folder = Path(tempfile.mkdtemp(prefix="sshd-"))
    (folder / "far").mkdir()
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (folder / "config").write_text(CONFIG.format(port=port, folder=folder))
    (folder / "client").write_text(CLIENT.format(folder=folder))
    if os.geteuid() == 0:
        # Where sshd separates privileges; a distribution's service makes it at its start.
        Path("/run/sshd").mkdir(exist_ok=True)
    with (folder / "log").open("w") as log:
        process = subprocess.Popen([SSHD, "-D", "-e", "-f", str(folder / "config")], stderr=log)
    try:
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        else:
            pytest.skip(f"sshd does not start here: {(folder / 'log').read_text()[-300:]}")
        user = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
        yield f"ssh://{user}@127.0.0.1:{port}", folder
    finally:
        process.terminate()
        process.wait()
        shutil.rmtree(folder)


def edgesparse(folder: Path, *arguments: object, **changes: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": SOURCES, "EDGESPARSE_SSH_OPTIONS": f"-F {folder}/client"}
    return subprocess.run(
        [sys.executable, "-m", "edgesparse_runtime.cli", *map(str, arguments)],
        env=environment | changes,
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )


def test_a_folder_of_recordings_is_carried_whole(tmp_path: Path) -> None:
    assert carried_files(None) == []
    paths = [tmp_path / "a" / "1.csv", tmp_path / "b" / "2.csv"]
    for path in paths:
        path.parent.mkdir()
        path.write_text("x")
    assert carried_files(tmp_path) == paths and carried_files(paths[0]) == paths[:1]


def test_profile_there(server: tuple[str, Path], shared_bundle: Bundle, tmp_path: Path) -> None:
    address, folder = server
    result = edgesparse(
        folder,
        *("profile", shared_bundle.path, "--on", address, "--remote-python", sys.executable),
        *("--seconds", 0.2, "--threads", 1, "--sweep-length", "300,600", "--json"),
        *("-o", tmp_path / "far.html"),
    )
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["on"] == "127.0.0.1"
    assert found["profile"]["model"] == str(shared_bundle.path)
    assert [p["length"] for p in found["sweep"]["length"]] == [300, 600]
    assert found["environment"]["telemetry"] == "off"
    assert "at 127.0.0.1" in (tmp_path / "far.html").read_text()
    # Nothing stays there.
    assert list((folder / "far").iterdir()) == []


def test_verify_there(server: tuple[str, Path], shared_bundle: Bundle) -> None:
    address, folder = server
    options = ("--on", address, "--remote-python", sys.executable, "--json")
    result = edgesparse(folder, "verify", shared_bundle.path, *options)
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["holds"] is True
    here = json.loads(edgesparse(folder, "verify", shared_bundle.path, "--json").stdout)
    # The library was carried along: the same engine runs there.
    assert [c["engine"] for c in found["checks"]] == [c["engine"] for c in here["checks"]]
    assert list((folder / "far").iterdir()) == []


def test_breakeven_there_is_stored_here(
    server: tuple[str, Path], shared_bundle: Bundle, tmp_path: Path
) -> None:
    address, folder = server
    path = shutil.copytree(shared_bundle.path, tmp_path / "m.edgesparse")
    result = edgesparse(
        folder,
        *("breakeven", path, "--on", address, "--remote-python", sys.executable, "--precision", "int8"),
        *("--seconds", 0.02, "--threads", 1, "--length", 200, "--density", "0.5", "--json"),
    )
    assert result.returncode == 0, result.stderr
    (entry,) = json.loads(result.stdout)["entries"]
    assert [(row["length"], row["density"]) for row in entry["table"]] == [(200, None), (200, 0.5)]
    # This machine is that machine: the runner goes by what was measured.
    assert "measured on this kind of machine" in Session(path, precision="int8", threads=1).switch.reason
    assert list((folder / "far").iterdir()) == []


def test_a_lost_connection_clears_up(server: tuple[str, Path], shared_bundle: Bundle) -> None:
    address, folder = server
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "edgesparse_runtime.cli", "profile", str(shared_bundle.path)),
            *("--on", address, "--remote-python", sys.executable, "--seconds", "60"),
        ],
        env=os.environ | {"PYTHONPATH": SOURCES, "EDGESPARSE_SSH_OPTIONS": f"-F {folder}/client"},
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    far = folder / "far"
    end = time.monotonic() + 60
    while not list(far.glob("edgesparse-*/site/edgesparse_runtime")) and time.monotonic() < end:
        time.sleep(0.05)
    assert list(far.iterdir())
    time.sleep(1.0)
    # Both the program and its ssh, as when a laptop's lid is shut for good.
    os.killpg(process.pid, 9)
    process.wait()
    while list(far.iterdir()) and time.monotonic() < end:
        time.sleep(0.05)
    assert list(far.iterdir()) == []


def test_what_is_wrong_is_said(server: tuple[str, Path], shared_bundle: Bundle) -> None:
    address, folder = server
    missing = edgesparse(folder, "verify", shared_bundle.path, "--on", address, "--remote-python", "nopython")
    assert missing.returncode == 1
    assert "`nopython` was not found on 127.0.0.1." in missing.stderr
    stranger = edgesparse(
        folder,
        "verify",
        shared_bundle.path,
        "--on",
        address,
        EDGESPARSE_SSH_OPTIONS="-F /dev/null -o LogLevel=QUIET",
    )
    assert stranger.returncode == 1
    assert "it must work without a prompt" in stranger.stderr
    # An error of the model's is the same there as here.
    long = edgesparse(
        folder,
        *("profile", shared_bundle.path, "--on", address, "--remote-python", sys.executable, "--length", 3),
    )
    assert long.returncode == 2
    assert "must have at least 8 steps; got 3" in long.stderr
    assert list((folder / "far").iterdir()) == []


def test_addresses() -> None:
    assert Target.parse("ssh://line@box:2222") == Target("box", "line", 2222)
    assert Target.parse("ssh://box") == Target("box")
    assert Target.parse("ssh://[fe80::1]:22") == Target("fe80::1", None, 22)
    for bad in ("box", "http://box", "ssh://-oProxyCommand=evil", "ssh://a b", "ssh://x@-l", "ssh://box:x"):
        with pytest.raises(InputError, match="must be like ssh://"):
            Target.parse(bad)


def test_the_runner_travels_whole() -> None:
    names = [name for name, _ in runner_files()]
    assert {"__init__.py", "session.py", "measure/job.py", "bundle/manifest.schema.json"} <= set(names)
    assert not [name for name in names if "__pycache__" in name]
