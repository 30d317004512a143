"""Hold decoded values to typed dicts: no missing key, no unknown key, no other type; every error at once, each with its place.

Users write rows of the catalogue by hand, and pydantic takes typed dicts only from Python 3.12 on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Any, Literal, NotRequired, Union, cast, get_args, get_origin, get_type_hints, is_typeddict

from ..diagnostics import nearest

Path = tuple[str | int, ...]
_WORDS: Mapping[object, str] = {str: "text", int: "a whole number", float: "a number", bool: "true or false", NoneType: "empty"}


@dataclass(frozen=True)
class Wrong:
    """One error: where in the value, what, and what to do next. at_key: the key itself is wrong, not what it stands for."""

    path: Path
    summary: str
    hint: str = ""
    at_key: bool = False


def check(value: object, kind: Any, path: Path = ()) -> Iterator[Wrong]:
    """Yield what is wrong with `value`, which must be a `kind`: a typed dict, dict, list, union, literal or scalar."""
    origin = get_origin(kind)
    if is_typeddict(kind):
        yield from _fields(value, kind, path)
    elif origin in (Union, UnionType):
        yield from _union(value, get_args(kind), path)
    elif origin is Literal:
        if value not in get_args(kind):
            words = [str(word) for word in get_args(kind)]
            hint = nearest(value, words) if isinstance(value, str) else f"valid: {', '.join(words)}"
            yield Wrong(path, f"must be one word of a list, not {_shown(value)}", hint)
    elif kind is Any:
        return
    elif origin is dict or kind is dict:
        yield from _mapping(value, get_args(kind) or (str, Any), path)
    elif origin is list:
        yield from _list(value, get_args(kind)[0], path)
    elif not _is(value, kind):
        yield Wrong(path, f"must be {_WORDS[kind]}, not {_shown(value)}")


def fields(kind: Any) -> Mapping[str, Any]:
    """Return the types of the keys of a typed dict; those that may be left out are marked `NotRequired`."""
    return get_type_hints(kind, include_extras=True)


def _fields(value: object, kind: Any, path: Path) -> Iterator[Wrong]:
    if not isinstance(value, dict):
        yield Wrong(path, f"must be a mapping, not {_shown(value)}", f"keys: {', '.join(fields(kind))}")
        return
    given, known = cast("dict[object, object]", value), fields(kind)
    for key, inner in given.items():
        if key not in known:
            yield Wrong((*path, str(key)), f'unknown key "{key}"', nearest(str(key), known), at_key=True)
        else:
            expected = known[str(key)]
            yield from check(inner, get_args(expected)[0] if get_origin(expected) is NotRequired else expected, (*path, str(key)))
    for key, expected in known.items():
        if key not in given and get_origin(expected) is not NotRequired:
            yield Wrong(path, f'"{key}" is missing')


def _union(value: object, kinds: tuple[Any, ...], path: Path) -> Iterator[Wrong]:
    tried = [list(check(value, kind, path)) for kind in kinds]
    if all(tried):
        yield min(tried, key=lambda wrongs: (wrongs[0].path == path, len(wrongs)))[0]


def _mapping(value: object, kinds: tuple[Any, ...], path: Path) -> Iterator[Wrong]:
    if not isinstance(value, dict):
        yield Wrong(path, f"must be a mapping, not {_shown(value)}")
        return
    for key, inner in cast("dict[object, object]", value).items():
        for wrong in check(key, kinds[0], (*path, str(key))):
            yield Wrong(wrong.path, f"the key {wrong.summary}", wrong.hint, at_key=True)
        yield from check(inner, kinds[1], (*path, str(key)))


def _list(value: object, kind: Any, path: Path) -> Iterator[Wrong]:
    if not isinstance(value, list):
        yield Wrong(path, f"must be a list, not {_shown(value)}")
        return
    for index, inner in enumerate(cast("list[object]", value)):
        yield from check(inner, kind, (*path, index))


def _is(value: object, kind: Any) -> bool:
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


def _shown(value: object) -> str:
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else "a list"
    if value is None or isinstance(value, bool):
        return {None: "empty", True: "true", False: "false"}[value]
    return f'"{value}"' if isinstance(value, str) else str(value)
