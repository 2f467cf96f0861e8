"""`edgesparse verify`: a bundle against its golden vectors, on this machine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgesparse_runtime.bundle.read import open_bundle
from edgesparse_runtime.cli.options import BundleArgument, RemoteOptions, Threads, TrustedKeys
from edgesparse_runtime.cli.output import print_fields, print_json
from edgesparse_runtime.cli.preflight import note_threads
from edgesparse_runtime.deploying.remote.connection import connect
from edgesparse_runtime.errors import BundleError, GateError
from edgesparse_runtime.evaluation.verify import Check, verify_path


@dataclass(frozen=True, kw_only=True)
class VerifyRequest(RemoteOptions):
    """Arguments and options of `edgesparse verify`."""

    bundle: BundleArgument
    threads: Threads = None
    require_signature: TrustedKeys = None


def verify(request: VerifyRequest) -> None:
    """Check hashes, signature, models and golden vectors on this machine, boundary by boundary.

    Exit 3 when a boundary is broken, 2 when the files are not those of the manifest.

    Example: edgesparse verify pump.edgesparse --require-signature factory.pub.pem
    """
    bundle = request.bundle
    checks = _checks(request)
    broken = [check for check in checks if not check.holds]
    is_damaged = bool(broken) and broken[0].boundary == "hashes"
    if request.as_json:
        fields = {"bundle": str(bundle), "holds": not broken, "broken": [c.boundary for c in broken]}
        models = {} if is_damaged else _models(bundle)
        print_json("verify", {**fields, "models": models, "checks": [c.to_dict() for c in checks]})
    elif not is_damaged:
        print_fields(
            {
                c.boundary: ("pass" if c.holds else "BROKEN") + (f": {c.detail}" if c.detail else "")
                for c in checks
            }
        )
    if is_damaged:
        raise BundleError(broken[0].detail)
    if broken:
        names = ", ".join(check.boundary for check in broken)
        raise GateError(f"{bundle} does not reproduce its recorded results on this machine: {names}.")


def _checks(request: VerifyRequest) -> list[Check]:
    target, keys = request.target(), request.require_signature or []
    if target is None:
        note_threads(request.threads)
        return verify_path(request.bundle, threads=request.threads, trusted_keys=keys)
    # The keys stay here, and what is sent is what they were checked against.
    open_bundle(request.bundle, trusted_keys=keys)
    with connect(target, request.bundle, wheelhouse=request.wheelhouse) as connection:
        return [Check(**check) for check in connection.verify(request.threads)]


def _models(path: Path) -> dict[str, dict[str, str]]:
    """Which models were verified, by precision."""
    bundle = open_bundle(path)
    files = bundle.manifest["files"]
    return {
        precision: {"sha256": files[bundle.model_file(precision)]["sha256"]}
        for precision in bundle.precisions
    }
