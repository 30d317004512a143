"""Brings entries that an older version wrote to the present schema of their type."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ..errors import StateCorrupt
from ..sdk import ResourceType
from .model import Entry, State


def upgrade(state: State, types: Mapping[str, ResourceType[Any, Any]]) -> State:
    """Return the state with every entry at its type's version. Pure.

    Raises:
        StateCorrupt: an entry was written by a newer version of its type.
    """
    return replace(state, entries={address: _upgrade(entry, types[entry.type]) for address, entry in state.entries.items()})


def _upgrade(entry: Entry, kind: ResourceType[Any, Any]) -> Entry:
    if entry.version > kind.version:
        raise StateCorrupt(
            f"{entry.address} has schema version {entry.version}, this version knows {kind.version}", hint="use a newer llmdeploy"
        )
    parts: dict[str, Any] = {"spec": entry.spec, "outputs": entry.outputs}
    for version in range(entry.version, kind.version):
        parts = kind.upgrade(version, parts)
    return entry if entry.version == kind.version else entry.model_copy(update={**parts, "version": kind.version})
