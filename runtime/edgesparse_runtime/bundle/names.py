"""Names of the files in a bundle, and the bounds that hold before any of them is read."""

from __future__ import annotations

import re

SUFFIX = ".edgesparse"
FILE_NAME = "manifest.json"
SIGNATURE_NAME = "manifest.sig"
# Of a plain Ed25519 signature.
SIGNATURE_SIZE = 64
GOLDEN = "golden.npz"
# The newest; manifest_upgrade.py brings older ones up to it.
SCHEMA_VERSION = 3

MOST_FILES = 1000
# All files together; an archive stays below the sizes where zip changes its form.
LARGEST_BUNDLE = 2 << 30
LARGEST_MANIFEST = 16 << 20
# Plain, so that no name leads out of the folder.
_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def is_plain_name(name: object) -> bool:
    """True for a name that stays inside its folder."""
    return isinstance(name, str) and _PLAIN_NAME.fullmatch(name) is not None and ".." not in name
