"""A KServe InferenceService for the image of `deploy container`."""

from __future__ import annotations

import re

from edgesparse_runtime.bundle.read import Bundle
from edgesparse_runtime.data.escape import quote_yaml
from edgesparse_runtime.deploying.container import PORT, bundle_file_name
from edgesparse_runtime.deploying.names import cluster_name
from edgesparse_runtime.deploying.templates import fill
from edgesparse_runtime.errors import InputError

_PART = r"[a-z0-9]+(?:[._-]+[a-z0-9]+)*"
_IMAGE = re.compile(
    rf"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?(?::[0-9]{{1,5}})?/)?{_PART}(?:/{_PART})*"
    r"(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(?:@sha256:[0-9a-f]{64})?"
)
_LONGEST_IMAGE = 512


def make_kserve(
    bundle: Bundle, image: str, *, min_replicas: int = 1, max_replicas: int = 4, canary: int | None = None
) -> str:
    """A KServe `InferenceService` with a custom predictor: the image of `make_containerfile`.

    Args:
        image: its name in the cluster's registry.
        min_replicas, max_replicas: between which KServe scales.
        canary: percent of the traffic for this bundle, the rest stays with the one before; None = all.

    Raises:
        InputError: `image` is not an image's name, `canary` no percentage, or the bundle's file name would
            need quoting.
    """
    if len(image) > _LONGEST_IMAGE or not _IMAGE.fullmatch(image):
        raise InputError(
            "`--image` must be an image's name, [HOST[:PORT]/]PATH[:TAG][@sha256:...], with a path in lower "
            f"case; got {image[:80]!r}."
        )
    if canary is not None and not 0 <= canary <= 100:
        raise InputError(f"`--canary` must be 0 to 100 percent; got {canary}.")
    manifest = bundle.manifest
    model = manifest["models"]["float32"]["file"]
    return fill(
        "kserve.yaml",
        name=cluster_name(bundle),
        bundle=quote_yaml(bundle_file_name(bundle)),
        created=quote_yaml(manifest["created"]),
        sha256=quote_yaml(manifest["files"][model]["sha256"]),
        image=quote_yaml(image),
        port=PORT,
        canary="" if canary is None else f"    canaryTrafficPercent: {canary}\n",
        min_replicas=min_replicas,
        max_replicas=max_replicas,
    )
