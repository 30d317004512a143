"""Turns a spec into the parameters of the calls that would build it, and judges them by AWS's own models of these calls.

botocore brings the models with it; nothing is called.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from typing import Any, cast

from llmdeploy.resource import Ref
from llmdeploy.sdk import Tree, Unknown

Fields = Mapping[str, str]
"""Field of the spec -> dotted path of the parameter; "" for the parameter of the same name."""


@dataclass(frozen=True)
class Call:
    """A call: which fields of the spec it carries, and what it needs besides, such as the id of what an earlier call made."""

    service: str
    operation: str
    fields: Fields
    more: Mapping[str, Any] = field(default_factory=dict[str, Any])


@cache
def _model(service: str) -> Any:
    return import_module("botocore.model").ServiceModel(service_model(service), service)


def service_model(service: str) -> dict[str, Any]:
    """Return AWS's description of a service, as botocore brings it."""
    return import_module("botocore.loaders").Loader().load_service_model(service, "service-2")


def _input(call: Call) -> Any:
    return _model(call.service).operation_model(call.operation).input_shape


def request_of(call: Call, values: Mapping[str, Tree]) -> dict[str, Any]:
    """Return the parameters of a call for a spec. Pure. AssertionError: a field has no such parameter, or one of another form."""
    wanted: dict[str, Tree] = dict(call.more)
    for name, path in call.fields.items():
        if not _empty(values[name]):
            _put(wanted, (path or name).split("."), values[name])
    return _structure(_input(call), wanted, f"{call.service}.{call.operation}")


def problems(call: Call, parameters: Mapping[str, Any]) -> str:
    """Return what botocore finds wrong with the parameters of a call, "" for nothing."""
    return import_module("botocore.validate").ParamValidator().validate(parameters, _input(call)).generate_report()


def _put(tree: dict[str, Tree], path: Sequence[str], value: Tree) -> None:
    for part in path[:-1]:
        tree = tree.setdefault(part, {})
    tree[path[-1]] = value


def _empty(value: Tree) -> bool:
    return value is None or (isinstance(value, list | tuple | dict) and not value)


def _shaped(shape: Any, value: Tree, place: str) -> Any:
    if shape.type_name == "map":
        return dict(value)
    forms = {"structure": _structure, "list": _list}
    return forms.get(shape.type_name, _scalar)(shape, value, place)


def _structure(shape: Any, value: Tree, place: str) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        # A structure around one value, such as EnableDnsSupport={"Value": True}, or a document that is one rule.
        (only,) = shape.members
        return {only: _shaped(shape.members[only], value, f"{place}.{only}")}
    names: dict[str, str] = {name.lower(): name for name in shape.members}
    result: dict[str, Any] = {}
    for key, item in cast("Mapping[str, Tree]", value).items():
        name = names.get(key.replace("_", "").lower())
        if name is None and key == "tags" and "TagSpecifications" in shape.members:
            result["TagSpecifications"] = [{"ResourceType": "instance", "Tags": _pairs(item, "")}]
            continue
        assert name is not None, f"{place} has no parameter {key}: {sorted(shape.members)}"
        if not _empty(item):
            result[name] = _shaped(shape.members[name], item, f"{place}.{name}")
    return result


def _list(shape: Any, value: Tree, place: str) -> list[Any]:
    if isinstance(value, Mapping):
        members: set[str] = set(shape.member.members) if shape.member.type_name == "structure" else set()
        prefix = next((p for p in ("", "Tag") if members == {f"{p}Key", f"{p}Value"}), None)
        pairs = cast("Mapping[str, str]", value)
        return [_shaped(shape.member, value, place)] if prefix is None else _pairs(pairs, prefix)
    items = cast("Sequence[Tree]", value) if isinstance(value, list | tuple) else [value]
    return [_shaped(shape.member, item, f"{place}[{index}]") for index, item in enumerate(items)]


def _pairs(values: Mapping[str, str], prefix: str) -> list[dict[str, str]]:
    return [{f"{prefix}Key": key, f"{prefix}Value": value} for key, value in values.items()]


def _scalar(shape: Any, value: Tree, place: str) -> Any:
    if isinstance(value, Ref | Unknown):
        return f"known-after-apply-{value.output if isinstance(value, Ref) else ''}".replace("_", "-")
    if isinstance(value, Mapping):
        assert shape.type_name == "string", f"{place} takes no document"
        return json.dumps(value, default=str)
    enum: list[str] = getattr(shape, "enum", [])
    assert not enum or value in enum, f"{place}: {value!r} is none of {enum}"
    metadata: Mapping[str, Any] = shape.metadata
    longest = metadata.get("max")
    assert longest is None or (len(value) if isinstance(value, str) else value) <= longest, (
        f"{place}: {value!r} is above {longest}"
    )
    return value
