"""Signatures, archives and TLS with a real server."""

from __future__ import annotations

import datetime
import http.client
import ipaddress
import json
import ssl
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from edgesparse_runtime.bundle.names import SIGNATURE_NAME
from edgesparse_runtime.bundle.read import Bundle, all_files, open_bundle
from edgesparse_runtime.bundle.signature import make_key_pair, sign
from edgesparse_runtime.bundle.write import rewrite_bundle, store_files
from edgesparse_runtime.errors import InputError
from edgesparse_runtime.serving.http.tls import check_tls
from tests.support.running import ENVIRONMENT, running

pytest.importorskip("cryptography", reason="cryptography is not installed (pip install 'edgesparse[sign]')")
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

WINDOW = np.zeros((1, 2, 100), np.float32)


def sign_with(path: Path, key: Path) -> None:
    bundle = open_bundle(path)
    store_files(path, {**all_files(bundle), SIGNATURE_NAME: sign(bundle.manifest_bytes, key)})


def test_an_unsigned_bundle_does_not_replace_a_signed_archive(tmp_path: Path, float_bundle: Bundle) -> None:
    private = tmp_path / "factory.pem"
    public = make_key_pair(private)
    path = store_files(tmp_path / "pump.edgesparse", all_files(float_bundle), archive=True).path
    sign_with(path, private)
    with running(path, "--reload-every", 0.1, "--require-signature", public) as server:
        first = server.infer("pump", WINDOW).headers["edgesparse-bundle"]
        rewrite_bundle(open_bundle(path), {"card.md": b"not signed"}, {})
        end = time.monotonic() + 60
        while server.event("reload refused") is None:
            assert time.monotonic() < end
            time.sleep(0.05)
        refused = server.event("reload refused")
        assert refused is not None and "sign" in refused["reason"]
        assert server.infer("pump", WINDOW).headers["edgesparse-bundle"] == first
        sign_with(path, private)
        while server.infer("pump", WINDOW).headers["edgesparse-bundle"] == first:
            assert time.monotonic() < end
            time.sleep(0.05)


def make_tls_pair(folder: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 and its key."""
    folder.mkdir(exist_ok=True)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    cert_file, key_file = folder / "cert.pem", folder / "key.pem"
    cert_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return cert_file, key_file


def test_tls(tmp_path: Path, float_bundle: Bundle) -> None:
    cert_file, key_file = make_tls_pair(tmp_path)
    with running(float_bundle.path, "--tls-cert", cert_file, "--tls-key", key_file) as server:
        assert server.url.startswith("https://")
        context = ssl.create_default_context(cafile=str(cert_file))
        connection = http.client.HTTPSConnection("127.0.0.1", server.port, context=context, timeout=20)
        connection.request("GET", "/v2/models/pump")
        assert json.loads(connection.getresponse().read())["name"] == "pump"
        connection.close()


def test_unusable_tls_files_are_named_before_a_bundle_is_loaded(tmp_path: Path) -> None:
    cert, key = make_tls_pair(tmp_path / "a")
    _, other = make_tls_pair(tmp_path / "b")
    noise, locked = tmp_path / "noise.pem", tmp_path / "locked.pem"
    noise.write_text("no PEM")
    private = serialization.load_pem_private_key(key.read_bytes(), None)
    locked.write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    check_tls(cert, key)
    for bad_cert, bad_key, message in (
        (tmp_path / "none.pem", key, "`--tls-cert` .*none.pem: no such file or directory"),
        (cert, tmp_path, "`--tls-key` .*: is a directory"),
        (noise, key, "`--tls-cert` .*noise.pem must hold PEM certificates"),
        (cert, noise, "`--tls-key` .*noise.pem must hold a PEM private key"),
        (cert, other, "`--tls-key` .* must be the key of `--tls-cert`"),
        (cert, locked, "`--tls-key` .* must not be encrypted"),
    ):
        with pytest.raises(InputError, match=message):
            check_tls(bad_cert, bad_key)
    result = subprocess.run(
        [
            *(sys.executable, "-m", "edgesparse_runtime.cli", "serve", str(tmp_path / "nothing.edgesparse")),
            *("--tls-cert", str(cert), "--tls-key", str(other)),
        ],
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
        check=False,
    )
    assert result.returncode == 2
    assert "must be the key of" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
