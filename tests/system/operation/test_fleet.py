"""The files of docs/guides/fleet.md, run against a store as each tool would run them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from edgesparse_runtime.bundle.read import Bundle, all_files, open_bundle
from edgesparse_runtime.bundle.write import copy_bundle, store_files
from tests.support.paths import ROOT, source_environment
from tests.system.operation.test_monitor import cli

FILES = ROOT / "docs" / "files" / "fleet"


class Device:
    """A device with a store, a key and a bundle that arrives.

    Attributes:
        bundle: the one that arrives, signed, release 2, as one file.
    """

    def __init__(self, shared: Bundle, folder: Path) -> None:
        self.folder, self.store = folder, folder / "store"
        programs = folder / "bin"
        programs.mkdir()
        self.program("edgesparse", f'exec "{sys.executable}" -m edgesparse_runtime.cli "$@"')
        first = copy_bundle(shared, folder / "first.edgesparse", {}, {"release": 1})
        second = copy_bundle(shared, folder / "second.edgesparse", {}, {"release": 2})
        (folder / "sent").mkdir()
        self.bundle = store_files(folder / "sent" / "pump.edgesparse", all_files(second), archive=True).path
        assert cli("sign", self.bundle, "--key", folder / "vendor.pem", "--make-key").returncode == 0
        assert cli("rollout", "try", first.path, "--store", self.store).returncode == 0
        self.sha256 = {1: first.sha256, 2: open_bundle(self.bundle).sha256}

    def program(self, name: str, text: str) -> None:
        path = self.folder / "bin" / name
        path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
        path.chmod(0o755)

    def run(self, file: str, *words: object, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["sh", str(FILES / file), *map(str, words)],
            env={
                **source_environment(),
                "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
                "EDGESPARSE_STORE": str(self.store),
                "EDGESPARSE_KEY": str(self.folder / "vendor.pub.pem"),
                **environment,
            },
            capture_output=True,
            text=True,
            check=False,
        )

    def answers(self) -> int:
        """The release that answers."""
        found = json.loads(cli("rollout", "status", "--json", "--store", self.store).stdout)
        return next(number for number, sha256 in self.sha256.items() if sha256 == found["answers"])

    def is_on_trial(self) -> bool:
        found = json.loads(cli("rollout", "status", "--json", "--store", self.store).stdout)
        return found["trial"] is not None


@pytest.fixture
def device(shared_bundle: Bundle, tmp_path: Path) -> Device:
    return Device(shared_bundle, tmp_path)


def spoil(device: Device) -> None:
    """An unsigned bundle arrives in place of the signed one."""
    unsigned = device.folder / "second.edgesparse"
    device.bundle.unlink()
    store_files(device.bundle, all_files(open_bundle(unsigned)), archive=True)


def test_mender_commits_what_survives_its_probation(device: Device, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    shutil.copytree(device.bundle.parent, tree / "files")
    assert device.run("mender-module", "SupportsRollback", tree).stdout == "Yes\n"
    assert device.run("mender-module", "NeedsArtifactReboot", tree).stdout == "No\n"
    assert device.run("mender-module", "Download", tree).returncode == 0
    done = device.run("mender-module", "ArtifactInstall", tree)
    assert done.returncode == 0, done.stderr
    assert device.answers() == 2 and device.is_on_trial()
    done = device.run("mender-module", "ArtifactCommit", tree, EDGESPARSE_PROBATION="0")
    assert done.returncode == 0, done.stderr
    assert device.answers() == 2 and not device.is_on_trial()


def test_mender_goes_back_once(device: Device, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    shutil.copytree(device.bundle.parent, tree / "files")
    assert device.run("mender-module", "ArtifactInstall", tree).returncode == 0
    # Taken back by a stream: the commit fails, and Mender's rollback finds nothing left to do.
    assert cli("rollout", "rollback", "--store", device.store).returncode == 0
    assert device.run("mender-module", "ArtifactCommit", tree, EDGESPARSE_PROBATION="0").returncode == 2
    assert device.run("mender-module", "ArtifactRollback", tree).returncode == 0
    assert device.answers() == 1
    assert device.run("mender-module", "ArtifactInstall", tree).returncode == 0
    assert device.run("mender-module", "ArtifactRollback", tree).returncode == 0
    assert device.answers() == 1 and not device.is_on_trial()


def test_mender_refuses_what_is_no_signed_bundle(device: Device, tmp_path: Path) -> None:
    (tmp_path / "tree" / "files").mkdir(parents=True)
    done = device.run("mender-module", "ArtifactInstall", tmp_path / "tree")
    assert done.returncode == 1 and "must hold one bundle" in done.stderr
    spoil(device)
    shutil.copy(device.bundle, tmp_path / "tree" / "files")
    assert device.run("mender-module", "ArtifactInstall", tmp_path / "tree").returncode == 2
    assert device.answers() == 1


def test_rauc_installs_a_bundle_that_it_has_checked(device: Device, tmp_path: Path) -> None:
    content = device.bundle.parent
    done = device.run("rauc-handler", RAUC_BUNDLE_MOUNT_POINT=str(content))
    assert done.returncode == 0, done.stderr
    assert device.answers() == 2 and device.is_on_trial()
    assert "neither path" in device.run("rauc-handler").stderr
    assert "must hold one" in device.run("rauc-handler", RAUC_UPDATE_SOURCE=str(tmp_path / "bin")).stderr


@pytest.mark.skipif(
    any(shutil.which(tool) is None for tool in ("rauc", "mksquashfs", "openssl")),
    reason="needs the Debian packages rauc, squashfs-tools and openssl",
)
def test_rauc_makes_and_reads_the_bundle_of_the_guide(device: Device, tmp_path: Path) -> None:
    page = (ROOT / "docs" / "guides" / "fleet.md").read_text(encoding="utf-8")
    manifest = page.split("manifest.raucm <<END\n")[1].split("END\n")[0]
    content = tmp_path / "content"
    shutil.copytree(device.bundle.parent, content)
    shutil.copy(FILES / "rauc-handler", content)
    (content / "manifest.raucm").write_text(manifest, encoding="utf-8")
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=test", "-days", "2"),
            *("-keyout", "key.pem", "-out", "cert.pem"),
        ],
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    for words in (
        ["rauc", "bundle", "--cert=cert.pem", "--key=key.pem", "content", "pump.raucb"],
        ["rauc", "info", "--keyring=cert.pem", "pump.raucb"],
    ):
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    assert "line-box" in done.stdout


def test_a_tag_of_a_registry_is_tried_once(device: Device, tmp_path: Path) -> None:
    device.program("oras", f'[ "$1" = pull ] && cp "{device.bundle}" "$4/"')
    for _ in range(2):
        done = device.run("oci-pull", "registry.example/pump:line-1")
        assert done.returncode == 0, done.stderr
    assert device.answers() == 2 and device.is_on_trial()
    device.program("oras", "echo no such tag >&2; exit 1")
    assert device.run("oci-pull", "registry.example/pump:line-1").returncode == 1


def test_a_stick_with_a_signed_bundle_is_tried(device: Device, tmp_path: Path) -> None:
    mount = tmp_path / "mount"
    device.program("mount", f'cp "$3"/*.edgesparse "{mount}/"')
    device.program("umount", f'rm -f "{mount}"/*.edgesparse; echo "$1" >>"{tmp_path}/unmounted"')
    sent = device.bundle.parent
    done = device.run("usb-stick", sent, EDGESPARSE_MOUNT=str(mount))
    assert done.returncode == 0, done.stderr
    assert device.answers() == 2 and (tmp_path / "unmounted").read_text() == f"{mount}\n"
    assert cli("rollout", "rollback", "--store", device.store).returncode == 0
    spoil(device)
    done = device.run("usb-stick", sent, EDGESPARSE_MOUNT=str(mount))
    assert done.returncode == 2 and "sign" in done.stderr
    assert device.answers() == 1 and not list(mount.iterdir())


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_the_unit_of_the_stick_is_valid(tmp_path: Path) -> None:
    name = "edgesparse-stick@.service"
    text = (FILES / name).read_text(encoding="utf-8")
    assert "/usr/local/bin/usb-stick" in text
    (tmp_path / "edgesparse-stick@sda1.service").write_text(
        text.replace("/usr/local/bin/usb-stick", "/bin/true"), encoding="utf-8"
    )
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(tmp_path / "edgesparse-stick@sda1.service")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0 and "edgesparse-stick" not in done.stderr, done.stderr
