"""Signatures, archives and TLS with a real server."""

from __future__ import annotations

import datetime
import http.client
import ipaddress
import json
import ssl
import time
from pathlib import Path

import numpy as np
import pytest

from edgesparse_runtime.bundle import Bundle, all_files, open_bundle, rewrite_bundle, store_files
from edgesparse_runtime.manifest import SIGNATURE_NAME
from edgesparse_runtime.signature import make_key_pair, sign
from tests.serving.running import running

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
        end = time.monotonic() + 20
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


def test_tls(tmp_path: Path, float_bundle: Bundle) -> None:
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
    cert_file, key_file = tmp_path / "cert.pem", tmp_path / "key.pem"
    cert_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    with running(float_bundle.path, "--tls-cert", cert_file, "--tls-key", key_file) as server:
        assert server.url.startswith("https://")
        context = ssl.create_default_context(cafile=str(cert_file))
        connection = http.client.HTTPSConnection("127.0.0.1", server.port, context=context, timeout=20)
        connection.request("GET", "/v2/models/pump")
        assert json.loads(connection.getresponse().read())["name"] == "pump"
        connection.close()
