"""Brings entries that an older version wrote to the present names and schema of their types."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from ..errors import StateCorrupt, StateError
from ..sdk import Found, ResourceType
from .model import Deposed, Entry, State

Renamed = Mapping[str, str]
"""Old names of a provider and the present ones. See `sdk.Renames`."""


def upgrade(state: State, types: Mapping[str, ResourceType[Any, Any]], renames: Mapping[str, Renamed] | None = None) -> State:
    """Return the state with every entry under its present name, at its type's version; the same one when nothing changes. Pure.

    renames: by provider.

    Raises:
        StateCorrupt: an entry was written by a newer version of its type, or two would have one address.
        StateError: a type is not known, or the creation of something did not end that has another name now.
    """
    named = _renamed(state.entries, renames) if renames else state.entries
    entries = {address: _upgrade(entry, types.get(entry.type)) for address, entry in named.items()}
    return state if entries == state.entries else replace(state, entries=entries, serial=state.serial + 1)


def renamed_found(found: Found, table: Renamed) -> Found:
    """Return a live object under its present name: its tags have the one that it was made with."""
    return replace(found, address=_present(found.address, table), type=table.get(found.type, found.type))


def _renamed(entries: Mapping[str, Entry], renames: Mapping[str, Renamed]) -> dict[str, Entry]:
    present: dict[str, str] = {}
    for address, entry in entries.items():
        present[address] = _present(address, renames.get(entry.provider, {}))
    found: dict[str, Entry] = {}
    for address, entry in entries.items():
        new = present[address]
        if new in found:
            raise StateCorrupt(f"two resources would have the address {new}", hint="this is a bug of the provider: report it")
        if new != address and entry.status == "creating":
            raise StateError(
                f"{address} is called {new} in this version, and its creation did not end",
                hint="finish it with the version that began it: `llmdeploy apply` there",
            )
        found[new] = _under(entry, new, lambda one: present.get(one, one), renames.get(entry.provider, {}))
    return found


def _under(entry: Entry, address: str, present: Callable[[str], str], table: Renamed) -> Entry:
    """Return the entry as `address`, with what it depends on under present names."""
    names = {
        "address": address,
        "type": table.get(entry.type, entry.type),
        "dependencies": tuple(present(one) for one in entry.dependencies),
        "deposed": tuple(
            old.model_copy(update={"dependencies": tuple(present(one) for one in old.dependencies)}) for old in entry.deposed
        ),
    }
    return entry.model_copy(update=names)


def _present(address: str, table: Renamed) -> str:
    """Return the present address: the longest old name that it begins with, at a dot, is exchanged."""
    parts = address.split(".")
    for length in range(len(parts), 0, -1):
        old = ".".join(parts[:length])
        if old in table:
            return ".".join([table[old], *parts[length:]])
    return address


def _upgrade(entry: Entry, kind: ResourceType[Any, Any] | None) -> Entry:
    if kind is None:
        raise StateError(
            f"{entry.address} has the type {entry.type}, which the installed provider {entry.provider} does not know",
            hint="install the version of the provider that made it",
        )
    if entry.version > kind.version:
        raise StateCorrupt(
            f"{entry.address} has schema version {entry.version}, this version knows {kind.version}", hint="use a newer llmdeploy"
        )
    if entry.version == kind.version:
        return entry
    deposed = tuple(old.model_copy(update=_parts(old, entry.version, kind)) for old in entry.deposed)
    return entry.model_copy(update={**_parts(entry, entry.version, kind), "deposed": deposed, "version": kind.version})


def _parts(one: Entry | Deposed, version: int, kind: ResourceType[Any, Any]) -> dict[str, Any]:
    parts: dict[str, Any] = {"spec": one.spec, "outputs": one.outputs}
    for older in range(version, kind.version):
        parts = kind.upgrade(older, parts)
    return parts
