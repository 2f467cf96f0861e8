"""The OpenAPI page of a running server: exact for the models that it serves."""

from __future__ import annotations

import html
from typing import Any

from edgesparse_runtime.bundle.version import tool_version
from edgesparse_runtime.serving.registry import Shelf
from edgesparse_runtime.serving.served_model import ServedModel
from edgesparse_runtime.serving.settings import Settings

Schema = dict[str, Any]
_LARGEST_FLOAT = 3.4028234663852886e38
_STRING: Schema = {"type": "string"}
_STYLE = (
    "body{font:16px/1.5 sans-serif;margin:2rem;max-width:70rem}"
    "td,th{padding:.3rem 1rem .3rem 0;text-align:left;vertical-align:top}"
)
_SENTENCES = {
    400: "The request does not fit.",
    404: "There is no such model or version.",
    408: "The request did not arrive in time.",
    413: "The request is too large.",
    415: "The body is encoded.",
    422: "Sizes inside the request contradict each other.",
    429: "The queue is full.",
    503: "Too many connections are open.",
    504: "The answer was not ready in time.",
}
_MODEL_HEADERS: Schema = {
    "edgesparse-version": {
        "required": True,
        "schema": _STRING,
        "description": "Version of the model that answered.",
    },
    "edgesparse-bundle": {
        "required": True,
        "schema": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
        "description": "sha256 of its bundle's manifest.",
    },
}


def describe(shelf: Shelf, settings: Settings) -> Schema:
    """The OpenAPI 3.1 document."""
    paths: Schema = {
        "/v2/health/live": _get("Is the server alive?", _object(live={"const": True})),
        "/v2/health/ready": _get("Is it ready for requests?", _object(ready={"type": "boolean"}), {503}),
        "/v2": _get(
            "What server is this?",
            _object(name={"const": "edgesparse"}, version=_STRING, extensions=_list(_STRING)),
        ),
        "/metrics": _get("Figures for Prometheus.", None, media="text/plain"),
        "/openapi.json": _get("This description.", {"type": "object"}),
        "/docs": _get("This description, to read.", None, media="text/html"),
    }
    for model in shelf.models():
        place = model.place
        stems = [f"/v2/models/{place.name}/versions/{place.version}"]
        if place.version == shelf.versions(place.name)[-1]:
            stems.append(f"/v2/models/{place.name}")
        for stem in stems:
            paths |= _model_paths(stem, model)
    document: Schema = {
        "openapi": "3.1.0",
        "info": {
            "title": "EdgeSparse",
            "version": tool_version(),
            "description": "Open Inference Protocol v2. Infer and explain also take and give the binary "
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
                    operation["responses"]["401"] = _error("No token, or a wrong one.")
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
        f"<table><tr><th>method<th>path<th>what<th>answers</tr>{''.join(rows)}</table></html>\n"
    )


def _model_paths(stem: str, model: ServedModel) -> Schema:
    name = model.place.name
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
        stem: _get(f"What {name} takes and gives.", metadata, headers=_MODEL_HEADERS),
        f"{stem}/ready": _get(
            f"Is {name} ready?",
            _object(name={"const": name}, ready={"type": "boolean"}),
            {503},
            headers=_MODEL_HEADERS,
        ),
        f"{stem}/infer": _post(f"Scores of {name}.", model, "infer"),
    }
    if model.session.is_sparse:
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
    responses = {"200": answer} | {str(code): answer | {"description": "Not any more."} for code in also}
    return {"get": {"summary": summary, "responses": responses}}


def _post(summary: str, model: ServedModel, operation: str) -> Schema:
    outputs = model.output_names(operation)
    bounds = model.explain_bounds() if operation == "explain" else model.bounds
    number: Schema = {"type": ["number", "null"], "minimum": -_LARGEST_FLOAT, "maximum": _LARGEST_FLOAT}
    channels: Schema = (
        {"type": "integer", "minimum": 1} if bounds.channels is None else {"const": bounds.channels}
    )
    window = {
        "type": "object",
        "required": ["name", "datatype", "shape", "data"],
        "properties": {
            "name": {"const": "window"},
            "datatype": {"const": "FP32"},
            "shape": {
                "type": "array",
                "prefixItems": [
                    {"type": "integer", "minimum": 1, "maximum": bounds.most_windows},
                    channels,
                    {"type": "integer", "minimum": bounds.min_steps, "maximum": bounds.max_steps},
                ],
                "minItems": 3,
                "maxItems": 3,
            },
            "data": {
                "description": "As many numbers as `shape` says, row-major; null = missing value.",
                "type": "array",
                "items": number,
            },
            # With raw bytes in place of `data` the body is no JSON, which this page cannot describe.
            "parameters": {"type": ["object", "null"], "properties": {"binary_data_size": {"type": "null"}}},
        },
        "additionalProperties": False,
    }
    asked = {
        "type": "object",
        "required": ["name"],
        "properties": {
            "name": {"enum": list(outputs)},
            "parameters": {
                "type": ["object", "null"],
                "properties": {"binary_data": {"type": "boolean"}, "classification": {"const": 0}},
            },
        },
        "additionalProperties": False,
    }
    body = {
        "type": "object",
        "required": ["inputs"],
        "properties": {
            "id": {"type": ["string", "null"], "maxLength": 256},
            "parameters": {
                "type": ["object", "null"],
                "properties": {"binary_data_output": {"type": "boolean"}},
            },
            "inputs": {"type": "array", "items": window, "minItems": 1, "maxItems": 1},
            "outputs": {"type": ["array", "null"], "items": asked, "maxItems": len(outputs)},
        },
        "additionalProperties": False,
    }
    steps = max(bounds.min_steps, 16)
    count = (bounds.channels or 1) * steps
    example = {
        "inputs": [
            {
                "name": "window",
                "datatype": "FP32",
                "shape": [1, bounds.channels or 1, steps],
                "data": [round(0.1 * i, 1) for i in range(count)],
            }
        ]
    }
    output = _object(
        name={"enum": list(outputs)},
        datatype={"enum": ["FP32", "BOOL"]},
        shape=_list({"type": "integer"}),
        data={"type": "array"},
    )
    answer = {
        "type": "object",
        "required": ["model_name", "model_version", "parameters", "outputs"],
        "properties": {
            "model_name": {"const": model.place.name},
            "model_version": {"const": model.place.version},
            "id": _STRING,
            "parameters": {"type": "object", "required": ["bundle_sha256"]},
            "outputs": _list(output),
        },
        "additionalProperties": False,
    }
    good = {
        "description": "OK",
        "headers": _MODEL_HEADERS,
        "content": {
            "application/json": {"schema": answer},
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
        },
    }
    responses = {"200": good} | {str(code): _error(text) for code, text in _SENTENCES.items()}
    for code in ("429", "503"):
        responses[code]["headers"] = {"Retry-After": {"required": True, "schema": _STRING}}
    content = {"application/json": {"schema": body, "example": example}}
    return {
        "post": {
            "summary": summary,
            "requestBody": {"required": True, "content": content},
            "responses": responses,
        }
    }


def _error(description: str) -> Schema:
    schema = {"$ref": "#/components/schemas/Error"}
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _object(**properties: Schema) -> Schema:
    return {"type": "object", "required": list(properties), "properties": properties}


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}
