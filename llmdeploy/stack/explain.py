"""Turn pydantic's errors into findings in plain words, with place, path and the nearest valid name.

A value that is wrong is repeated only where it is one word of a closed list; anything else may be a secret.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, get_args

from pydantic import BaseModel, RootModel, ValidationError
from pydantic_core import ErrorDetails

from ..diagnostics import Diagnostic, nearest
from .model import ProviderChoice, Stack
from .source import SourceMap
from .terms import MAX_FINDINGS, PROBLEM, dotted, shown
from .tree import Node

_TYPES = {
    "string": "text",
    "int": "a whole number",
    "float": "a number",
    "decimal": "a number",
    "bool": "true or false",
    "dict": "a mapping",
    "mapping": "a mapping",
    "model": "a mapping",
    "dataclass": "a mapping",
    "list": "a list",
    "tuple": "a list",
    "set": "a list",
    "none": "empty",
}
_BOUNDS = {
    "greater_than_equal": ("ge", "must be at least {}"),
    "less_than_equal": ("le", "must be at most {}"),
    "greater_than": ("gt", "must be more than {}"),
    "less_than": ("lt", "must be less than {}"),
    "string_too_short": ("min_length", "must have at least {} characters"),
    "string_too_long": ("max_length", "must have at most {} characters"),
    "too_short": ("min_length", "must have at least {} entries"),
    "too_long": ("max_length", "must have at most {} entries"),
}
_TYPE = re.compile(r"([a-z]+)_(?:attributes_)?(?:type|parsing|required|from_float)")

_KEPT = "..."
"""What stands in the way out of a finding for what the stack file says already."""

Path = tuple[str | int, ...]


def explain(
    error: ValidationError,
    *,
    source: SourceMap,
    providers: Mapping[str, type[BaseModel]],
    broken: set[Path],
) -> tuple[list[Diagnostic], int]:
    """Return one finding per path, in order of place; what lies at or below a path in `broken` was told before.

    At most `MAX_FINDINGS` are explained; the number says how many more there are.
    """
    located = [(_path(detail, source), detail) for detail in error.errors(include_url=False)]
    located = [(path, detail) for path, detail in located if not any(path[:end] in broken for end in range(len(path) + 1))]
    located.sort(key=lambda item: (source.place(item[0]), dotted(item[0])))
    groups = [(path, [detail for _, detail in group]) for path, group in groupby(located, key=lambda item: item[0])]
    findings = [_finding(path, details, source, providers) for path, details in groups[:MAX_FINDINGS]]
    return findings, max(0, len(groups) - MAX_FINDINGS)


def _path(detail: ErrorDetails, source: SourceMap) -> Path:
    """Return the error's path without what pydantic adds to it: names of union members and of validators."""
    parts: list[str | int] = []
    for position, part in enumerate(detail["loc"]):
        known, _ = source.nearest((*parts, part))
        last = position == len(detail["loc"]) - 1
        if len(known) > len(parts) or (last and detail["type"] == "missing"):
            parts.append(part)
    return tuple(parts)


def _finding(
    path: Path, details: Sequence[ErrorDetails], source: SourceMap, providers: Mapping[str, type[BaseModel]]
) -> Diagnostic:
    detail = details[0]
    context: dict[str, Any] = detail.get("ctx") or {}
    _, node = source.nearest(path)
    kind = detail["type"]
    if kind == "extra_forbidden":
        names = [name for model in models_at(path[:-1], providers) for name in names_of(model)]
        summary = f'unknown key "{shown(str(path[-1]))}"'
        hint = nearest(str(path[-1])[:64], names) if names else "nothing can be said here"
        if path[-1] == _KEPT:
            hint = "it stands for what is there already; of compliance: [gdpr] that is profiles: [gdpr]"
        return Diagnostic("error", summary, source.key_place(path), dotted(path[:-1]), hint)
    if kind == "missing":
        return Diagnostic("error", "is required", source.place(path), dotted(path), _description(path, providers))
    if kind == PROBLEM:
        return Diagnostic("error", context["message"], source.place(path), dotted(path), context.get("hint", ""))
    if kind in ("literal_error", "enum"):
        summary, hint = _choice(detail, context)
        return Diagnostic("error", summary, source.place(path), dotted(path), hint)
    summary, hint = _wrong(details, context, node)
    if not hint and summary.startswith(("must be a mapping", "must be a list")):
        hint = _description(path, providers)
    return Diagnostic("error", summary, source.place(path), dotted(path), hint)


def _choice(detail: ErrorDetails, context: Mapping[str, Any]) -> tuple[str, str]:
    valid = re.findall(r"'([^']*)'", str(context.get("expected", "")))
    given = detail["input"]
    if not isinstance(given, str):
        return f"must be one word of a list, not {_kind(given)}", f"valid: {', '.join(valid)}"
    return f'"{shown(given)}" is not valid', nearest(given[:64], valid) or f"valid: {', '.join(valid)}"


def _wrong(details: Sequence[ErrorDetails], context: Mapping[str, Any], node: Node) -> tuple[str, str]:
    """Return summary and hint for a value of the wrong type or outside its bounds."""
    expected = [_TYPES.get(match[1]) if (match := _TYPE.fullmatch(detail["type"])) else None for detail in details]
    if all(expected):
        given = details[0]["input"]
        words = " or ".join(dict.fromkeys(word for word in expected if word))
        return f"must be {words}, not {_kind(given)}", _quotes(words, given, node)
    detail = next(detail for detail, word in zip(details, expected, strict=True) if not word)
    context = detail.get("ctx") or context
    if detail["type"] in _BOUNDS:
        name, sentence = _BOUNDS[detail["type"]]
        return sentence.format(context.get(name)), ""
    if detail["type"] in ("value_error", "assertion_error"):
        return str(context.get("error", "is not valid")), _reference(node)
    if detail["type"] == "string_pattern_mismatch":
        return "does not have the right form", ""
    return re.sub(r"^(?:[A-Z][a-z]+|URL|UUID) should ", "must ", detail["msg"]), ""


def _kind(value: object) -> str:
    match value:
        case None:
            return "empty"
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case str():
            return "text"
        case dict():
            return "a mapping"
        case _:
            return "a list"


def _quotes(expected: str, given: object, node: Node) -> str:
    if expected == "text" and isinstance(given, int | float):
        return "put it in quotes"
    if "${env:" in node.raw and isinstance(given, str):
        return "an environment variable is text; for another type use a variable and --var"
    if "number" in expected and isinstance(given, str) and re.fullmatch(r"[0-9.]+", node.raw):
        return "remove the quotes"
    return ""


def _reference(node: Node) -> str:
    """Return the way out for `${env:NAME}` where a reference is wanted: it would put the secret itself into the stack."""
    use = re.search(r"\$\{env:([A-Za-z_][A-Za-z0-9_]*)\}", node.raw)
    return f"write env:{use[1]}, without ${{ }}: llmdeploy stores the reference, never the value" if use else ""


def models_at(path: Sequence[str | int], providers: Mapping[str, type[BaseModel]]) -> list[type[BaseModel]]:
    """Return the models that may stand at `path`; none where the path leaves the contract."""
    models: list[type[BaseModel]] = [Stack]
    for part in path:
        if isinstance(part, str):
            models = [inner for model in models for inner in _inner(model, part, providers)]
    return models


def names_of(model: type[BaseModel]) -> list[str]:
    """Return the keys that `model` takes in a file."""
    return [field.alias or name for name, field in model.model_fields.items()]


def _inner(model: type[BaseModel], name: str, providers: Mapping[str, type[BaseModel]]) -> Iterator[type[BaseModel]]:
    if issubclass(model, ProviderChoice):
        if name in providers:
            yield from _body(providers[name])
        return
    for field_name, field in model.model_fields.items():
        if name == (field.alias or field_name):
            yield from models_in(field.annotation)


def _body(config: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """Yield the model of a provider's body, or of its members where the body is a list."""
    if issubclass(config, RootModel):
        yield from models_in(config.model_fields["root"].annotation)
    else:
        yield config


def models_in(annotation: object) -> Iterator[type[BaseModel]]:
    """Yield the models inside a type annotation."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from models_in(argument)


def _description(path: Path, providers: Mapping[str, type[BaseModel]]) -> str:
    for model in models_at(path[:-1], providers):
        for field_name, field in model.model_fields.items():
            if path[-1:] == ((field.alias or field_name),):
                return (field.description or "").rstrip(".")
    return ""
