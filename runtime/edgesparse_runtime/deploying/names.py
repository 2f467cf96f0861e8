"""Names that clusters and repositories accept."""

from __future__ import annotations

import re

from edgesparse_runtime.bundle.read import Bundle


def plain_name(bundle: Bundle) -> str:
    """The bundle's file name as a model name: letters, digits, `_` and `-`."""
    stem = bundle.path.resolve().name.removesuffix(".edgesparse")
    return re.sub(r"[^A-Za-z0-9_-]+", "-", stem).strip("-_")[:60] or "model"


def cluster_name(bundle: Bundle) -> str:
    """The same for Kubernetes: lower case, digits and `-`, starting with a letter."""
    name = re.sub(r"[^a-z0-9-]+", "-", plain_name(bundle).lower()).strip("-")
    return name if name[:1].isalpha() else f"model-{name}".rstrip("-")
