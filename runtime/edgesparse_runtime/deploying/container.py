"""A Containerfile that serves a bundle, and a KServe manifest for the image."""

from __future__ import annotations

from edgesparse_runtime.bundle import Bundle
from edgesparse_runtime.deploying.names import cluster_name, plain_name

PORT = 8080
# A user that is nobody on the host.
_USER = 65532


def make_containerfile(bundle: Bundle) -> str:
    """Text of a Containerfile; built in a folder that holds the bundle, a wheel of edgesparse and a token."""
    name = plain_name(bundle)
    return f"""\
# Serves {name} (Open Inference Protocol v2). Made by `edgesparse deploy container`.
#   Beside this file: the bundle, and the wheel that `make wheel` builds, in dist/.
#   podman build -t {cluster_name(bundle)} .
#   podman run --read-only --tmpfs /tmp -p 127.0.0.1:{PORT}:{PORT} \\
#     -v ./token:/run/secrets/token:ro {cluster_name(bundle)}
FROM python:3.11-slim
COPY dist/*.whl /tmp/wheels/
RUN pip install --no-cache-dir "$(ls /tmp/wheels/edgesparse-*.whl)[serve]" && rm -r /tmp/wheels
COPY {bundle.path.name} /models/{bundle.path.name}
USER {_USER}:{_USER}
EXPOSE {PORT}
# Outside loopback a secret is asked for: mount it, do not bake it in.
ENTRYPOINT ["edgesparse", "serve", "{name}=/models/{bundle.path.name}", "--host", "0.0.0.0", \\
  "--port", "{PORT}", "--token-file", "/run/secrets/token"]
"""


def make_kserve(bundle: Bundle, image: str) -> str:
    """A KServe `InferenceService` with a custom predictor: the image of `make_containerfile`.

    Args:
        image: its name in the cluster's registry.
    """
    name = cluster_name(bundle)
    manifest = bundle.manifest
    return f"""\
# Made by `edgesparse deploy kserve` from {bundle.path.name} of {manifest["created"]}.
# The token: kubectl create secret generic {name}-token --from-literal=token="$(openssl rand -hex 32)"
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata:
  name: {name}
  annotations:
    edgesparse/float32-sha256: "{manifest["files"][manifest["models"]["float32"]["file"]]["sha256"]}"
spec:
  predictor:
    minReplicas: 1
    maxReplicas: 4
    containers:
      - name: kserve-container
        image: {image}
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
