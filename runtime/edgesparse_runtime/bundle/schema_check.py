"""Checks a JSON value against the part of JSON Schema that the manifest's schema uses, without a package.

Known keywords: `$ref` to `$defs`, `type`, `const`, `enum`, `minimum`, `pattern`, `required`, `properties`,
`additionalProperties`, `propertyNames`, `items`, `uniqueItems`, `allOf` and `not` with `enum`; a test holds
the schema to these, and this against the package `jsonschema`.
"""

from __future__ import annotations

import re
from typing import Any

Schema = dict[str, Any]
_KINDS: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}
_SHOWN = 60


def find_mismatch(value: object, schema: Schema, root: Schema, place: str = "") -> str | None:
    """What does not fit first, as "`compute.model_share` must be a number; got null"; None where all fits.

    Args:
        root: the whole schema, whose `$defs` are referred to.
        place: name of `value`.
    """
    if "$ref" in schema:
        schema = root["$defs"][schema["$ref"].removeprefix("#/$defs/")]
    wrong = _find_wrong_value(value, schema)
    if wrong is not None:
        return f"`{place}` must be {wrong}; got {_show(value)}"
    for part in schema.get("allOf", ()):
        found = find_mismatch(value, part, root, place)
        if found is not None:
            return found
    if isinstance(value, dict):
        return _find_in_object(value, schema, root, place)
    if isinstance(value, list) and "items" in schema:
        for i, item in enumerate(value):
            found = find_mismatch(item, schema["items"], root, f"{place}[{i}]")
            if found is not None:
                return found
    return None


def matches(pattern: str, text: str) -> bool:
    """JSON Schema's `pattern`: its `$` is the end, where Python's also lets one line break pass."""
    return re.search(re.sub(r"(?<!\\)\$$", r"\\Z", pattern), text) is not None


def _find_in_object(value: dict[str, Any], schema: Schema, root: Schema, place: str) -> str | None:
    dot = f"{place}." if place else ""
    for name in schema.get("required", ()):
        if name not in value:
            return f"`{dot}{name}` must be there; it is missing"
    known, others = schema.get("properties", {}), schema.get("additionalProperties")
    for name, item in value.items():
        if "propertyNames" in schema:
            wrong = _find_wrong_value(name, schema["propertyNames"])
            if wrong is not None:
                return f"a name in `{place}` must be {wrong}; got {_show(name)}"
        part = known.get(name, others)
        if part is not None:
            found = find_mismatch(item, part, root, dot + name)
            if found is not None:
                return found
    return None


def _find_wrong_value(value: object, schema: Schema) -> str | None:
    """What one value must be where it is not."""
    if "type" in schema:
        kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
        if not any(_is(value, kind) for kind in kinds):
            return " or ".join(f"{'an' if kind[0] in 'aeio' else 'a'} {kind}" for kind in kinds).replace(
                "a null", "null"
            )
    if "const" in schema and value != schema["const"]:
        return _show(schema["const"])
    if "enum" in schema and value not in schema["enum"]:
        return " or ".join(map(str, schema["enum"]))
    if "minimum" in schema and isinstance(value, (int, float)) and not value >= schema["minimum"]:
        return f"at least {schema['minimum']}"
    if schema.get("uniqueItems") and isinstance(value, list) and _has_twins(value):
        return "a list without repetition"
    if "pattern" in schema and isinstance(value, str) and not matches(schema["pattern"], value):
        return "of the form that the schema gives"
    if "not" in schema and value in schema["not"]["enum"]:
        return f"none of {', '.join(schema['not']['enum'])}"
    return None


def _has_twins(values: list[Any]) -> bool:
    """True when two entries are equal; strings and numbers only, as the manifest's lists are."""
    plain = [value for value in values if isinstance(value, (str, int, float))]
    return len(set(plain)) < len(plain)


def _is(value: object, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    return isinstance(value, _KINDS[kind])


def _show(value: object) -> str:
    """As JSON would write it, shortly; what is in a manifest may come from anybody and be large."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "a list"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return repr(value)[:_SHOWN]
