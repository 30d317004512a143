"""Values of a plan or state as short text: long ones become a count and a digest."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from difflib import SequenceMatcher
from hashlib import sha256

from ..resource import Tree, Unknown, as_mapping, as_sequence

KNOWN_AFTER_APPLY = "(known after apply)"
_JSON = json.JSONEncoder(ensure_ascii=False)
_BARE = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./:@+-=%*")


def full(value: Tree) -> str:
    """Return all of a value on one line; words without blanks need no quotes."""
    if isinstance(value, str):
        return value if value and _BARE.issuperset(value) else _JSON.encode(value)
    if isinstance(value, Unknown):
        return KNOWN_AFTER_APPLY
    if (mapping := as_mapping(value)) is not None:
        return "{" + ", ".join(f"{key}: {full(item)}" for key, item in mapping.items()) + "}"
    if (sequence := as_sequence(value)) is not None:
        return "[" + ", ".join(full(item) for item in sequence) + "]"
    return _JSON.encode(value)


def short(value: Tree, limit: int = 60) -> str:
    """Return a value in about `limit` characters. What is left out is told as a count or a digest."""
    text = full(value)
    if len(text) <= limit:
        return text
    if isinstance(value, str):
        return _short_text(value, limit)
    sequence = as_sequence(value)
    if sequence is None:
        return f"{_count(as_mapping(value) or (), 'field')} ({digest(value)})"
    if any(as_mapping(item) is not None or as_sequence(item) is not None for item in sequence):
        return f"{_count(sequence, 'item')} ({digest(value)})"
    shown: list[str] = []
    for item in sequence:
        shown.append(short(item, limit // 2))
        if len(", ".join(shown)) > limit:
            break
    return f"[{', '.join(shown[:-1] or shown)}, ...] ({len(sequence)} items)"


def _count(items: Collection[object], noun: str) -> str:
    return f"{len(items)} {noun}{'' if len(items) == 1 else 's'}"


def _short_text(text: str, limit: int) -> str:
    lines = text.count("\n") + (not text.endswith("\n"))
    if lines > 1:
        return f"{lines} lines ({digest(text)})"
    return f"{full(text[: max(8, limit // 2)])}... ({len(text)} characters, {digest(text)})"


def digest(value: Tree) -> str:
    """Return the beginning of the SHA-256 of a value, so that two long ones can be told apart."""
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=repr)
    return f"sha256 {sha256(text.encode(errors='surrogatepass')).hexdigest()[:8]}"


def change(before: Tree, after: Tree, limit: int = 60) -> str:
    """Return `old -> new`; of two lists of words only what differs."""
    old, new = as_sequence(before), as_sequence(after)
    if old and new and _words(old) and _words(new) and len(full(old)) + len(full(new)) > limit:
        return "; ".join(_differences(list(old), list(new)))
    return f"{short(before, limit)} -> {short(after, limit)}"


def _words(items: Sequence[Tree]) -> bool:
    return all(isinstance(item, str | int | float | bool | None) for item in items)


def _differences(old: list[Tree], new: list[Tree]) -> Iterator[str]:
    """Yield each difference. An option before it (`--name`) is named, so that a command line can be read."""
    left, right = [full(item) for item in old], [full(item) for item in new]
    for kind, start, end, other_start, other_end in SequenceMatcher(None, left, right, autojunk=False).get_opcodes():
        if kind == "equal":
            continue
        option = left[start - 1] + " " if start and left[start - 1].startswith("--") else ""
        gone, come = " ".join(left[start:end]), " ".join(right[other_start:other_end])
        yield {"replace": f"{option}{gone} -> {come}", "delete": f"without {gone}", "insert": f"with {come}"}[kind]


def leaves(tree: Mapping[str, Tree], limit: int = 60, prefix: str = "", depth: int = 99) -> Iterator[tuple[str, Tree]]:
    """Yield dotted name and value. A mapping that fits into `limit` characters, or lies deeper than `depth`, is a value."""
    for key, value in tree.items():
        name = f"{prefix}{key}"
        mapping = as_mapping(value)
        if mapping is not None and depth > 0 and len(full(mapping)) > limit:
            yield from leaves(mapping, limit, f"{name}.", depth - 1)
        else:
            yield name, value


def elapsed(seconds: float) -> str:
    """Return `7s`, `3m07s` or `1h02m`."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole}s"
    return f"{whole // 60}m{whole % 60:02d}s" if whole < 3600 else f"{whole // 3600}h{whole % 3600 // 60:02d}m"
