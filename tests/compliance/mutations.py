"""Every property of a resource flipped, one at a time: what a person, or a bug, could get wrong."""

from __future__ import annotations

import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel

from llmdeploy.resource import Ref, as_mapping, as_sequence
from llmdeploy.sdk import Tree, Unknown
from tests.weakened import POLICY_FIELDS, weakened

ELSEWHERE = {"us-east-1": "eu-west-2", "eu-central-1": "us-east-1"}
"""Another region for each one that an example has."""
EVERYWHERE = "0.0.0.0/0"
HUGE = 10**6

OTHER_VALUES: Mapping[str, Sequence[str]] = {
    "disabled": ["enabled"],
    "enabled": ["disabled"],
    "required": ["optional"],
    "gp3": ["gp2"],
    "aws:kms": ["AES256"],
    "BucketOwnerEnforced": ["ObjectWriter"],
    "Enabled": ["Suspended"],
    "SYMMETRIC_DEFAULT": ["RSA_4096"],
    "ENCRYPT_DECRYPT": ["SIGN_VERIFY"],
    "TCP": ["TLS", "UDP"],
    "HTTPS": ["HTTP"],
    "instance": ["ip"],
    "network": ["application"],
    "ipv4": ["dualstack"],
    "STANDARD": ["INFREQUENT_ACCESS"],
    "vpc": ["standard"],
    "public": ["private"],
    "forward": ["redirect"],
}
"""What AWS takes besides the one value that a type allows."""

ADDED: Mapping[str, Sequence[Tree]] = {
    "host_engine.process.argv": [
        "--enable-log-requests",
        "--enable-log-outputs",
        "--otlp-traces-endpoint=http://collector.example:4317",
        "--trust-remote-code",
        "--kv-transfer-config={}",
    ],
    "host_engine.process.env": [
        {"VLLM_LOGGING_LEVEL": "DEBUG"},
        {"VLLM_SERVER_DEV_MODE": "1"},
        {"VLLM_DEBUG_LOG_API_SERVER_RESPONSE": "1"},
        {"VLLM_TRACE_FUNCTION": "1"},
    ],
}
"""What is put into a list or mapping besides what it holds, by type and path."""


SET: Mapping[str, Tree] = {
    "host_gateway.fallback": {"base_url": "https://api.example.com/v1", "model": "m", "api_key": "env:FALLBACK_KEY"},
    "host_volume.key": "file:volume.key",
    "certificate.key_ref": "file:tls/key.pem",
    "aws_instance.instance_market_options": {
        "market_type": "spot",
        "spot_options": {"spot_instance_type": "one-time", "instance_interruption_behavior": "terminate"},
    },
}
"""What an example leaves out, put in."""

TOGETHER: Mapping[str, Mapping[str, Mapping[str, Tree]]] = {
    "aws_security_group_rule": {
        "every protocol and port": {"ip_protocol": "-1", "from_port": None, "to_port": None},
        "every port": {"from_port": 1, "to_port": 65_535},
        "everywhere instead of a group": {"referenced_group_id": None, "cidr_ipv4": EVERYWHERE},
    }
}
"""Properties of a type that only together have another value, by what they come to."""


@dataclass(frozen=True)
class Mutation:
    """One property with another value. name: `ADDRESS.PATH: HOW`; values: the whole spec with it."""

    name: str
    values: Mapping[str, Tree]


@dataclass(frozen=True)
class _Place:
    """A property: the type of its resource, its dotted path, and what its model says of it."""

    kind: str
    path: str
    hint: Any

    def inner(self, key: str, value: Tree) -> _Place:
        return _Place(self.kind, f"{self.path}.{key}" if self.path else key, _hint(self.hint, key))

    def item(self, index: int, value: Tree) -> _Place:
        name = value if isinstance(value, str) else index
        return _Place(self.kind, f"{self.path}[{name}]", _hint(self.hint, str(index)))


def mutations(address: str, spec: type[BaseModel], values: Mapping[str, Tree]) -> Iterator[Mutation]:
    """Yield every mutation of a resource. Tags are left out: nothing reads them but people and the sweep."""
    place = _Place(address.split(".", 1)[0], "", spec)
    for how, changed in _mapping(place, {key: value for key, value in values.items() if key != "tags"}, top=True):
        yield Mutation(f"{address}.{how}", {**values, **changed})
    for how, changed in TOGETHER.get(place.kind, {}).items():
        if all(values[key] != value for key, value in changed.items()):
            yield Mutation(f"{address}: {how}", {**values, **changed})


def _flips(place: _Place, value: Tree) -> Iterator[tuple[str, Tree]]:
    """Yield the name of each change below a property, and the property's value with it."""
    if (mapping := as_mapping(value)) is not None:
        if place.path.rsplit(".", 1)[-1] in POLICY_FIELDS:
            yield from ((f"{place.path}: {what}", changed) for what, changed in weakened(mapping))
        else:
            yield from _mapping(place, mapping)
    elif (sequence := as_sequence(value)) is not None:
        yield from (_argv if place.path.endswith("argv") else _sequence)(place, sequence)
    else:
        yield from ((f"{place.path}: {how}", other) for how, other in _scalar(place, value))


def _mapping(place: _Place, mapping: Mapping[str, Tree], *, top: bool = False) -> Iterator[tuple[str, Mapping[str, Tree]]]:
    for key, value in mapping.items():
        for how, changed in _flips(place.inner(key, value), value):
            yield how, {**mapping, key: changed}
        if not top and not _is_model(place.hint):
            yield f"{place.path}.{key}: dropped", {name: one for name, one in mapping.items() if name != key}
    for more in ADDED.get(f"{place.kind}.{place.path}", ()):
        ((key, value),) = more.items()
        yield f"{place.path}.{key}: {value}", {**mapping, key: value}


def _sequence(place: _Place, sequence: Sequence[Tree]) -> Iterator[tuple[str, Sequence[Tree]]]:
    for index, value in enumerate(sequence):
        before, after = list(sequence[:index]), list(sequence[index + 1 :])
        item = place.item(index, value)
        yield f"{item.path}: dropped", [*before, *after]
        yield from ((how, [*before, changed, *after]) for how, changed in _flips(item, value))
    yield from _added(place, sequence)


def _argv(place: _Place, argv: Sequence[Tree]) -> Iterator[tuple[str, Sequence[Tree]]]:
    """Yield every option dropped and, where it has a value, with another one."""
    flags = [index for index, word in enumerate(argv) if word.startswith("--")]
    for first, end in zip(flags, [*flags[1:], len(argv)], strict=True):
        before, option, after = argv[:first], argv[first:end], argv[end:]
        yield f"{place.path} {option[0]}: dropped", [*before, *after]
        if len(option) > 1:
            yield f"{place.path} {option[0]}: altered", [*before, option[0], f"{option[1]}-x", *after]
    yield from _added(place, argv)


def _added(place: _Place, sequence: Sequence[Tree]) -> Iterator[tuple[str, Sequence[Tree]]]:
    for more in ADDED.get(f"{place.kind}.{place.path}", ()):
        yield f"{place.path}: {more} added", [*sequence, more]


def _scalar(place: _Place, value: Tree) -> Iterator[tuple[str, Tree]]:
    if value is None and f"{place.kind}.{place.path}" in SET:
        yield "set", SET[f"{place.kind}.{place.path}"]
    elif isinstance(value, Ref | Unknown):
        yield "None", None
    elif isinstance(value, bool):
        yield str(not value), not value
    elif isinstance(value, int | float):
        extremes = (1, 65_535) if place.path.endswith("port") else (0, HUGE)
        yield from ((str(other), other) for other in extremes if other != value)
    elif isinstance(value, str):
        yield from _text(place, value)


def _text(place: _Place, value: str) -> Iterator[tuple[str, Tree]]:
    region = next((name for name in ELSEWHERE if name in value), None)
    named = [one for one in _literals(place.hint) if one != value]
    if named or _literals(place.hint):
        yield from ((str(other), other) for other in (*named, *(() if named else OTHER_VALUES.get(value, ()))))
    elif value.count(".") == 3 and "/" in value:
        yield from ((EVERYWHERE, EVERYWHERE) for _ in range(value != EVERYWHERE))
    elif region:
        yield "in another region", value.replace(region, ELSEWHERE[region])
    else:
        yield "altered", f"{value}-x"


# --- what a model says of a property ----------------------------------------------------------------------------------------


def _parts(hint: Any) -> Iterator[Any]:
    """Yield what a hint stands for, without unions, names and annotations around it."""
    if get_origin(hint) in (Union, UnionType):
        yield from (part for one in get_args(hint) for part in _parts(one))
    elif get_origin(hint) is typing.Annotated or hasattr(hint, "__value__"):
        yield from _parts(hint.__value__ if hasattr(hint, "__value__") else get_args(hint)[0])
    else:
        yield hint


def _literals(hint: Any) -> tuple[Any, ...]:
    return tuple(value for part in _parts(hint) if get_origin(part) is Literal for value in get_args(part))


def _is_model(hint: Any) -> bool:
    return any(isinstance(part, type) and issubclass(part, BaseModel) for part in _parts(hint))


def _hint(hint: Any, key: str) -> Any:
    for part in _parts(hint):
        if isinstance(part, type) and issubclass(part, BaseModel) and key in part.model_fields:
            return part.model_fields[key].annotation
        arguments = get_args(part)
        if get_origin(part) in (tuple, list) and arguments:
            return arguments[0]
        if len(arguments) == 2 and get_origin(part) is not Literal:
            return arguments[1]
    return None
