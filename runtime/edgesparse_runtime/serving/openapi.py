"""The OpenAPI description of a running server, exact for the models that it serves."""

from __future__ import annotations

import html
import json
import math
from copy import deepcopy
from importlib.resources import files
from typing import Any

from edgesparse_runtime.bundle.version import tool_version
from edgesparse_runtime.serving.protocol.tensors import WindowBounds
from edgesparse_runtime.serving.protocol.texts import DATATYPE, NAME, TextBounds
from edgesparse_runtime.serving.registry import Registry
from edgesparse_runtime.serving.served_model import ServedModel
from edgesparse_runtime.serving.served_text import ServedText
from edgesparse_runtime.serving.settings import Settings

Schema = dict[str, Any]
_STRING: Schema = {"type": "string"}
_STYLE = (
    "body{font:16px/1.5 sans-serif;margin:2rem;max-width:70rem}"
    "td,th{padding:.3rem 1rem .3rem 0;text-align:left;vertical-align:top}"
)
# The part of the document that is the same for every model: request and answer of infer and explain.
_INFER: Schema = json.loads(files(__package__).joinpath("openapi_infer.json").read_text("utf-8"))
_MODEL_HEADERS: Schema = _INFER["headers"]
# Windows shorter than this make a poor example.
_EXAMPLE_STEPS = 16


def describe(registry: Registry, settings: Settings) -> Schema:
    """The OpenAPI 3.1 document."""
    paths: Schema = {
        "/v2/health/live": _get("Liveness.", _object(live={"const": True})),
        "/v2/health/ready": _get("Readiness.", _object(ready={"type": "boolean"}), {503}),
        "/v2": _get(
            "Server metadata.",
            _object(name={"const": "edgesparse"}, version=_STRING, extensions=_list(_STRING)),
        ),
        "/metrics": _get("Prometheus metrics.", None, media="text/plain"),
        "/openapi.json": _get("This description.", {"type": "object"}),
        "/docs": _get("This description as a page.", None, media="text/html"),
    }
    for model in registry.models():
        address = model.address
        stems = [f"/v2/models/{address.name}/versions/{address.version}"]
        if address.version == registry.versions(address.name)[-1]:
            stems.append(f"/v2/models/{address.name}")
        for stem in stems:
            paths |= _model_paths(stem, model)
    document: Schema = {
        "openapi": "3.1.0",
        "info": {
            "title": "EdgeSparse",
            "version": tool_version(),
            "description": "Open Inference Protocol v2. Infer and explain also support the binary "
            "tensor data extension (header Inference-Header-Content-Length).",
        },
        "paths": paths,
        "components": {"schemas": {"Error": _object(error=_STRING)}},
    }
    if settings.token_file is not None:
        document["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{"token": []}]
        for path, item in paths.items():
            for operation in item.values():
                if path.startswith("/v2/health/"):
                    operation["security"] = []
                else:
                    operation["responses"]["401"] = _error("The token is missing or wrong.")
    return document


def to_html(document: Schema) -> str:
    """The document as one self-contained page: no script, nothing fetched from elsewhere."""
    rows = []
    for path, item in document["paths"].items():
        for method, operation in item.items():
            statuses = ", ".join(operation["responses"])
            cells = (method.upper(), path, operation["summary"], statuses)
            rows.append("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells) + "</tr>")
    info = document["info"]
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{html.escape(info['title'])}</title>"
        f"<style>{_STYLE}</style><h1>{html.escape(info['title'])} {html.escape(info['version'])}</h1>"
        f"<p>{html.escape(info['description'])} <a href=/openapi.json>As OpenAPI</a>.</p>"
        f"<table><tr><th>method<th>path<th>summary<th>statuses</tr>{''.join(rows)}</table></html>\n"
    )


def _model_paths(stem: str, model: ServedModel) -> Schema:
    name = model.address.name
    parameters = {"type": "object", "required": ["bundle_sha256"]}
    tensor = _object(name=_STRING, datatype=_STRING, shape=_list({"type": "integer"}))
    metadata = _object(
        name={"const": name},
        versions=_list(_STRING),
        platform=_STRING,
        inputs=_list(tensor),
        outputs=_list(tensor),
        parameters=parameters,
    )
    paths: Schema = {
        stem: _get(f"Metadata of {name}.", metadata, headers=_MODEL_HEADERS),
        f"{stem}/ready": _get(
            f"Readiness of {name}.",
            _object(name={"const": name}, ready={"type": "boolean"}),
            {503},
            headers=_MODEL_HEADERS,
        ),
        f"{stem}/infer": _post(f"Scores of {name}.", model, "infer"),
    }
    if model.session.is_sparse and not isinstance(model, ServedText):
        paths[f"{stem}/explain"] = _post(
            f"Scores of {name}, and the blocks it attended to.", model, "explain"
        )
    return paths


def _get(
    summary: str,
    schema: Schema | None,
    also: set[int] = frozenset(),  # type: ignore[assignment]
    *,
    media: str = "application/json",
    headers: Schema | None = None,
) -> Schema:
    answer: Schema = {"description": "OK", "content": {media: {"schema": schema or _STRING}}}
    if headers:
        answer["headers"] = headers
    responses = {"200": answer} | {str(code): answer | {"description": "Shutting down."} for code in also}
    return {"get": {"summary": summary, "responses": responses}}


def _post(summary: str, model: ServedModel, operation: str) -> Schema:
    """Infer or explain: the fixed part, with the bounds of this model filled in."""
    outputs = list(model.output_names(operation))
    bounds = model.explain_bounds() if operation == "explain" else model.bounds
    parts = deepcopy(_INFER)
    body, answer = parts["requestBody"], parts["answer"]
    content = body["content"]["application/json"]
    properties = content["schema"]["properties"]
    tensor, example = properties["inputs"]["items"]["properties"], content["example"]["inputs"][0]
    _fill_input(tensor, example, bounds)
    properties["outputs"]["maxItems"] = len(outputs)
    properties["outputs"]["items"]["properties"]["name"]["enum"] = outputs
    answer["properties"] |= {
        "model_name": {"const": model.address.name},
        "model_version": {"const": model.address.version},
    }
    answer["properties"]["outputs"]["items"]["properties"]["name"]["enum"] = outputs
    good = {
        "description": "OK",
        "headers": _MODEL_HEADERS,
        "content": {
            "application/json": {"schema": answer},
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
        },
    }
    responses = {"200": good} | {code: _error(text) for code, text in parts["errors"].items()}
    for code in ("429", "503"):
        responses[code]["headers"] = {"Retry-After": {"required": True, "schema": _STRING}}
    return {"post": {"summary": summary, "requestBody": body, "responses": responses}}


def _fill_input(tensor: Schema, example: Schema, bounds: WindowBounds) -> None:
    """The input of a model, `window` or `text`, and an example of it."""
    if isinstance(bounds, TextBounds):
        sizes = [{"type": "integer", "minimum": 1, "maximum": bounds.most_windows}]
        tensor["name"], tensor["datatype"] = {"const": NAME}, {"const": DATATYPE}
        tensor["shape"] |= {"description": "Texts.", "minItems": 1, "maxItems": 1, "prefixItems": sizes}
        tensor["data"] = {"description": "As many texts as `shape` says.", "type": "array", "items": _STRING}
        example |= {"name": NAME, "datatype": DATATYPE, "shape": [1], "data": ["A text."]}
        return
    tensor["shape"]["prefixItems"] = [
        {"type": "integer", "minimum": 1, "maximum": bounds.most_windows},
        {"type": "integer", "minimum": 1} if bounds.channels is None else {"const": bounds.channels},
        {"type": "integer", "minimum": bounds.min_steps, "maximum": bounds.max_steps},
    ]
    shape = [1, bounds.channels or 1, max(bounds.min_steps, _EXAMPLE_STEPS)]
    example["shape"], example["data"] = shape, [round(0.1 * i, 1) for i in range(math.prod(shape))]


def _error(description: str) -> Schema:
    schema = {"$ref": "#/components/schemas/Error"}
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _object(**properties: Schema) -> Schema:
    return {"type": "object", "required": list(properties), "properties": properties}


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}
