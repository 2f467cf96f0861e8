"""A Containerfile that serves a bundle, and a KServe manifest for the image."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from edgesparse_runtime.bundle.read import Bundle
from edgesparse_runtime.deploying.names import cluster_name, plain_name
from edgesparse_runtime.errors import InputError

PORT = 8080
# A user that is nobody on the host.
_USER = 65532
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_PART = r"[a-z0-9]+(?:[._-]+[a-z0-9]+)*"
_IMAGE = re.compile(
    rf"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?(?::[0-9]{{1,5}})?/)?{_PART}(?:/{_PART})*"
    r"(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(?:@sha256:[0-9a-f]{64})?"
)
_LONGEST_IMAGE = 512


def make_containerfile(bundle: Bundle, *, options: Sequence[str] = ()) -> str:
    """Text of a Containerfile; built in a folder that holds the bundle, a wheel of edgesparse and a token.

    Args:
        options: further ones of `edgesparse serve`.

    Raises:
        InputError: the bundle's file name would need quoting.
    """
    name, file = plain_name(bundle), _file_name(bundle)
    further = "".join(f", {json.dumps(option)}" for option in options)
    return f"""\
# Serves {name} (Open Inference Protocol v2). Made by `edgesparse deploy container`.
#   Beside this file: the bundle, and the wheel that `make wheel` builds, in dist/.
#   podman build -t {cluster_name(bundle)} .
#   podman run --read-only --tmpfs /tmp -p 127.0.0.1:{PORT}:{PORT} \\
#     -v ./token:/run/secrets/token:ro {cluster_name(bundle)}
FROM python:3.11-slim
COPY dist/*.whl /tmp/wheels/
RUN pip install --no-cache-dir "$(ls /tmp/wheels/edgesparse-*.whl)[serve]" && rm -r /tmp/wheels
COPY {file} /models/{file}
USER {_USER}:{_USER}
EXPOSE {PORT}
# Outside loopback a secret is asked for: mount it, do not bake it in.
ENTRYPOINT ["edgesparse", "serve", "{name}=/models/{file}", "--host", "0.0.0.0", \\
  "--port", "{PORT}", "--token-file", "/run/secrets/token"{further}]
"""


def _file_name(bundle: Bundle) -> str:
    """The bundle's file name, which stands in a container file as it is.

    Blanks split arguments there, `$` and `*` are expanded, and a line's end begins a new instruction.
    """
    name = bundle.path.absolute().name
    if not _PLAIN.fullmatch(name):
        raise InputError(
            "The bundle's file name must be of letters, digits, `.`, `_` and `-` for a container, and start "
            f"with a letter or digit; got {name!r}. Rename the bundle."
        )
    return name


def make_kserve(bundle: Bundle, image: str, *, min_replicas: int = 1, max_replicas: int = 4) -> str:
    """A KServe `InferenceService` with a custom predictor: the image of `make_containerfile`.

    Args:
        image: its name in the cluster's registry.
        min_replicas, max_replicas: between which KServe scales.

    Raises:
        InputError: the image is no image's name, or the bundle's file name would need quoting.
    """
    if len(image) > _LONGEST_IMAGE or not _IMAGE.fullmatch(image):
        raise InputError(
            "`--image` must be an image's name, [HOST[:PORT]/]PATH[:TAG][@sha256:...], with a path in lower "
            f"case; got {image[:80]!r}."
        )
    name, file = cluster_name(bundle), _file_name(bundle)
    manifest = bundle.manifest
    return f"""\
# Made by `edgesparse deploy kserve` from {file} of {manifest["created"]}.
# The token: kubectl create secret generic {name}-token --from-literal=token="$(openssl rand -hex 32)"
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata:
  name: {name}
  annotations:
    edgesparse/float32-sha256: "{manifest["files"][manifest["models"]["float32"]["file"]]["sha256"]}"
spec:
  predictor:
    minReplicas: {min_replicas}
    maxReplicas: {max_replicas}
    containers:
      - name: kserve-container
        image: "{image}"
        ports:
          - containerPort: {PORT}
            protocol: TCP
        readinessProbe:
          httpGet:
            path: /v2/health/ready
            port: {PORT}
        livenessProbe:
          httpGet:
            path: /v2/health/live
            port: {PORT}
        resources:
          requests:
            cpu: "1"
            memory: 256Mi
          limits:
            cpu: "2"
            memory: 1Gi
        securityContext:
          allowPrivilegeEscalation: false
          readOnlyRootFilesystem: true
          runAsNonRoot: true
          capabilities:
            drop: ["ALL"]
        volumeMounts:
          - name: token
            mountPath: /run/secrets
            readOnly: true
          - name: scratch
            mountPath: /tmp
    volumes:
      - name: token
        secret:
          secretName: {name}-token
      - name: scratch
        emptyDir: {{}}
"""
