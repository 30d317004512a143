"""How a field of the stack file refuses a wrong value: in words for people, with the nearest way out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, cast

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationError
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, InitErrorDetails, PydanticCustomError, core_schema

PROBLEM = "stack_problem"
"""The pydantic error type of everything that `problem` makes; its context holds `message` and `hint`."""

MAX_FINDINGS = 100
"""How many errors are explained; more are only counted."""

_CONTROL = "\\x00-\\x1f\\x7f-\\x9f\\u2028\\u2029\\ud800-\\udfff"
_SHOWN_CHARACTERS = 60


def problem(message: str, *, hint: str = "", at: tuple[str | int, ...] = ()) -> InitErrorDetails:
    """Return one finding: what is wrong, what to do next, and where, relative to the value being checked."""
    error = PydanticCustomError(PROBLEM, "{message}", {"message": message, "hint": hint})
    return InitErrorDetails(type=error, loc=at, input=None)


def refuse(*problems: InitErrorDetails) -> NoReturn:
    """Raise every finding at once, from inside a validator.

    Raises:
        ValidationError: always; pydantic adds the place of the field.
    """
    raise ValidationError.from_exception_data("stack", list(problems))


def shown(text: str) -> str:
    """Return `text` fit for a terminal: cut, and without control characters."""
    cut = text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}..."
    return "".join(character if character.isprintable() else f"\\u{ord(character):04x}" for character in cut)


@dataclass(frozen=True)
class Text:
    """Annotation of a `str`: the whole text must match `pattern`; `expected` says so in words."""

    pattern: str
    expected: str

    def check(self, value: str) -> str:
        """Return `value`, or refuse it without repeating it."""
        if not re.fullmatch(self.pattern, value):
            refuse(problem(self.expected))
        return value

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {**handler(schema), "pattern": f"^(?:{self.pattern})$"}


LINE = Text(
    rf"(?!\s)[^{_CONTROL}]{{1,1024}}(?<!\s)",
    "must be one line of text, at most 1024 characters, with no space at its ends",
)


def refuse_lines(value: object, at: tuple[str | int, ...] = ()) -> list[InitErrorDetails]:
    """Return a finding for each text inside `value` (any nesting) that holds control characters."""
    if isinstance(value, str):
        return [problem("must not hold control characters", at=at)] if re.search(f"[{_CONTROL}]", value) else []
    return [found for key, item in members(value) for found in refuse_lines(item, (*at, key))]


def mapping(value: object) -> Mapping[str, Any] | None:
    """Return decoded YAML or JSON as a mapping, or None when it is none."""
    return cast("Mapping[str, Any]", value) if isinstance(value, dict) else None


def members(value: object) -> Iterable[tuple[str | int, object]]:
    """Return the members of a decoded mapping (by key) or list (by index); a scalar has none."""
    if isinstance(value, list):
        return enumerate(cast("list[object]", value))
    return (mapping(value) or {}).items()


def dotted(path: Sequence[str | int]) -> str:
    """Return a path as people write it: `keys[1].name`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{shown(part)}" if text else shown(part)
    return text
