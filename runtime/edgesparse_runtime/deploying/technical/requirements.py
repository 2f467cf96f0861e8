"""Annex I, Part I (2) of Regulation (EU) 2024/2847: requirements in short, and what EdgeSparse contributes.

What is said of the software is what docs/threat-model.md promises, with what it does not. Whether a
requirement applies, and is met by the product, is for the manufacturer's risk assessment.
"""

from __future__ import annotations

from dataclasses import dataclass

from edgesparse_runtime.bundle.read import Bundle

# Files of a bundle that hold windows of recordings.
_RECORDINGS = ("golden.npz", "prototypes.npz")
# Requirement, contribution; what is so of one bundle is filled in.
_ROWS = (
    (
        "no known exploitable vulnerabilities when made available",
        "The bill of materials names the packages to look up. No vulnerability database was queried for "
        "this page.",
    ),
    (
        "secure by default configuration",
        "The server listens on loopback only, unless a token or TLS is configured. There are no accounts "
        "and no default password.",
    ),
    (
        "vulnerabilities can be addressed through security updates",
        "A bundle and its runner are replaced apart from each other; edgesparse rollout tries a new "
        "bundle and goes back unless it is confirmed. Nothing updates itself, and no "
        "notice of updates is sent.",
    ),
    (
        "protection from unauthorized access",
        "The server has one bearer token and TLS. Everything else relies on rights of files and users of "
        "the operating system.",
    ),
    (
        "confidentiality of data",
        "The server has TLS. Bundles, states and recordings are stored unencrypted.",
    ),
    (
        "integrity of data, commands, programs and configuration",
        "Every file of a bundle is held to its sha256 whenever it is read. This bundle {signed}; verbs "
        "that are given --require-signature refuse bundles that a trusted key has not signed.",
    ),
    (
        "data minimization",
        "Nothing is reported home. This bundle holds {recordings}.",
    ),
    (
        "availability of essential functions, also after an incident",
        "The server bounds time and memory per request, and keeps the old model where a new bundle is "
        "bad. Floods of connections are not defended against.",
    ),
    (
        "least impact on the availability of other devices and networks",
        "Connections are opened only to sources, brokers and hosts that a command names.",
    ),
    (
        "limited attack surfaces",
        "Model files are read by a bounded checker and written anew for onnxruntime; only listed "
        "operators run, and nothing is a pickle.",
    ),
    (
        "reduced impact of incidents",
        "The server tries each bundle in a separate process with limits of time and memory first. A bug "
        "in onnxruntime or in the kernels is not excluded.",
    ),
    (
        "recording and monitoring of relevant internal activity",
        "The server logs JSON lines and has metrics; a rollout's store keeps an audit. Access to data is "
        "not recorded.",
    ),
    (
        "secure and easy removal of all data and settings",
        "What is stored lies in bundles, states and stores that a command named; deleting these removes "
        "it. Nothing overwrites deleted data.",
    ),
)


@dataclass(frozen=True)
class Requirement:
    """One requirement.

    Attributes:
        letter: of Annex I, Part I (2).
        text: in short.
        provided: what the software, or this bundle, contributes; and what it does not.
    """

    letter: str
    text: str
    provided: str


def requirements_of(bundle: Bundle) -> list[Requirement]:
    """All thirteen, with what is so of this bundle."""
    names = " and ".join(name for name in _RECORDINGS if name in bundle.manifest["files"])
    signed = "is not signed" if bundle.signature is None else "carries an Ed25519 signature"
    recordings = f"windows of recordings in {names}" if names else "no recordings"
    return [
        Requirement(letter, text, provided.format(signed=signed, recordings=recordings))
        for letter, (text, provided) in zip("abcdefghijklm", _ROWS, strict=True)
    ]
