"""The JSON Schema (draft 2020-12) of the stack file, for editors: short forms, `${...}` and the installed providers included."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from .model import Stack
from .terms import mapping

_INTERPOLATED = "Interpolated"
_NAMED = ("properties", "$defs", "patternProperties")
_LISTED = ("anyOf", "oneOf", "allOf")
_NESTED = ("items", "additionalProperties")
_OUTSIDE = ("description", "default", "examples", "deprecated")


def json_schema(providers: Mapping[str, type[BaseModel]]) -> dict[str, Any]:
    """Return the schema of a stack file whose provider is one of `providers` (Config models by name)."""
    schema = Stack.model_json_schema()
    definitions: dict[str, Any] = schema.pop("$defs")
    del definitions["BaseModel"]
    definitions["ProviderChoice"] = _choice(providers)
    for name, config in providers.items():
        own = config.model_json_schema(ref_template=f"#/$defs/{name}.{{model}}")
        definitions |= {f"{name}.{key}": value for key, value in own.pop("$defs", {}).items()}
        definitions[f"provider.{name}"] = own
    whole = _editable({**schema, "$defs": definitions})
    whole["$defs"][_INTERPOLATED] = {
        "type": "string",
        "pattern": r"\$\{(var\.[A-Za-z_][A-Za-z0-9_]*|env:[A-Za-z_][A-Za-z0-9_]*)\}",
        "description": "A variable or an environment variable.",
    }
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "llmdeploy stack file", **whole}


def _choice(providers: Mapping[str, type[BaseModel]]) -> dict[str, Any]:
    return {
        "description": "The provider that brings the machines: exactly one key, its name.",
        "type": "object",
        "properties": {name: {"$ref": f"#/$defs/provider.{name}"} for name in providers},
        "additionalProperties": False,
        "minProperties": 1,
        "maxProperties": 1,
    }


def _editable(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema without generated titles, and with `${...}` allowed where a scalar of another form stands."""
    result: dict[str, Any] = {}
    for key, value in schema.items():
        if key in _NAMED:
            result[key] = {name: _editable(part) for name, part in value.items()}
        elif key in _LISTED:
            result[key] = _flat([_editable(part) for part in value])
        elif key in _NESTED and mapping(value) is not None:
            result[key] = _editable(value)
        elif key != "title":
            result[key] = value
    if "patternProperties" in result:
        result.setdefault("additionalProperties", False)
    if not _narrow_scalar(result):
        return result
    outside = {key: result.pop(key) for key in _OUTSIDE if key in result}
    return {"anyOf": [result, {"$ref": f"#/$defs/{_INTERPOLATED}"}], **outside}


def _flat(choices: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the choices with those of inner choices in their place, each once."""
    flat: list[dict[str, Any]] = []
    for choice in choices:
        flat += [inner for inner in (choice["anyOf"] if choice.keys() == {"anyOf"} else [choice]) if inner not in flat]
    return flat


def _narrow_scalar(schema: Mapping[str, Any]) -> bool:
    """Whether the schema takes scalars and would refuse the text `${var.name}`."""
    if schema.get("type") == "string":
        return bool(schema.keys() & {"pattern", "format", "enum", "const", "maxLength"})
    return schema.get("type") in ("integer", "number", "boolean") or bool(schema.keys() & {"enum", "const"})
