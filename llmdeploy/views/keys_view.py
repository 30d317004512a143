"""API keys: whom each is for and how long it lasts. A view never has the key itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime

from ..resource import Tree, as_mapping, as_sequence
from ..state.model import Entry
from .screen import Line, line
from .table import table

_DAY_S = 86_400


def keys_lines(entries: Sequence[Entry], now: float, width: int | None) -> Iterator[Line]:
    """Yield one row for each credential. now: seconds since 1970."""
    rows = [
        (str(key["name"]), str(key["principal"]), one["key_id"], one["state"], _age(one["age_days"]), one["not_after"][:10])
        for key in keys_document(entries, now)
        for one in key["credentials"]
    ]
    if not rows:
        yield line("There are no keys.")
        return
    yield from table(("NAME", "PRINCIPAL", "KEY ID", "STATE", "AGE", "ENDS"), rows, width)


def keys_document(entries: Sequence[Entry], now: float) -> list[dict[str, Tree]]:
    """Return every key with its credentials, the current one first, without their hashes."""
    return [
        {
            "name": entry.spec.get("name"),
            "principal": entry.spec.get("principal"),
            "address": entry.address,
            "file": entry.outputs.get("file"),
            "credentials": [_credential(one, now) for one in as_sequence(entry.outputs.get("credentials")) or ()],
        }
        for entry in entries
    ]


def _credential(one: Mapping[str, Tree], now: float) -> dict[str, Tree]:
    begins, ends = float(one["not_before"]), float(one["not_after"])
    return {
        "key_id": str(one["key_id"]),
        "state": "revoked" if one.get("revoked") else "ended" if ends <= now else "live",
        "not_before": _time(begins),
        "not_after": _time(ends),
        "age_days": int((now - begins) // _DAY_S),
        "days_left": int((ends - now) // _DAY_S),
        "file": one.get("location"),
    }


def rotated_lines(name: str, data: Tree) -> Iterator[Line]:
    """Yield where the new key lies, and how long the old one works."""
    told = as_mapping(data) or {}
    yield line(f"The key {name} has a new credential, {told.get('key_id')}, in {told.get('file')}", hang=2)
    for old in as_sequence(told.get("previous")) or ():
        yield line(f"  {old['key_id']} works until {_time(float(old['not_after']))}", hang=4)


def revoked_lines(name: str, data: Tree, *, all_of_it: bool) -> Iterator[Line]:
    """Yield what does not work any more. all_of_it: no credential of the key is left."""
    gone = ", ".join(str(one) for one in as_sequence((as_mapping(data) or {}).get("revoked")) or ())
    yield line(f"Revoked: {gone or name}. No new request with it starts.", hang=2)
    if all_of_it:
        yield line(f"`llmdeploy keys rotate {name}` makes a new one; or remove it from the stack file.", hang=2)


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def _age(days: int) -> str:
    return f"{days} day{'' if days == 1 else 's'}"
