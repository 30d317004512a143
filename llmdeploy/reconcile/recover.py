"""Brings what a sweep found into the state that a plan starts from. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from ..sdk import Found
from ..state.model import Deposed, Entry, State


def unknown_to(state: State, found: Iterable[Found]) -> tuple[Found, ...]:
    """Return what `state` does not know: objects of this stack that an earlier run made and could not write down."""
    ids = {(entry.address, id_) for entry in state.entries.values() for id_ in _ids(entry)}
    lost = (one for one in found if (one.address, one.id) not in ids)
    return tuple(sorted(lost, key=lambda one: (one.address, one.generation, one.id)))


def _ids(entry: Entry) -> tuple[str, ...]:
    return (entry.id, *(one.id for one in entry.deposed))


def with_found(state: State, found: Iterable[Found]) -> State:
    """Return the state with every found object in it.

    An object at a free address is a creation that was interrupted; its create is repeated and finishes it. So is the one of a
    creation in doubt. Any other is one too many at its address, and waits there to be removed.
    """
    entries = dict(state.entries)
    for one in sorted(found, key=lambda one: (one.address, -one.generation, one.id)):
        entry = entries.get(one.address)
        if entry is None:
            entries[one.address] = Entry(
                address=one.address,
                type=one.type,
                provider=one.provider,
                id=one.id,
                generation=one.generation,
                status="creating",
                spec=dict(one.spec),
                outputs=dict(one.outputs),
            )
        elif not entry.id and entry.generation == one.generation:
            entries[one.address] = entry.model_copy(update={"id": one.id})
        elif one.id not in _ids(entry):
            old = Deposed(id=one.id, generation=one.generation, spec=dict(one.spec), outputs=dict(one.outputs))
            entries[one.address] = entry.model_copy(update={"deposed": (*entry.deposed, old)})
    return replace(state, entries=entries)


def depose(entry: Entry) -> Entry:
    """Return the entry of an address whose object waits for its replacement: the object is set aside, the address is free."""
    old = Deposed(
        id=entry.id,
        generation=entry.generation,
        spec=dict(entry.spec),
        outputs=dict(entry.outputs),
        dependencies=entry.dependencies,
    )
    return entry.model_copy(update={"deposed": (*entry.deposed, old), "id": "", "outputs": {}, "steps": ()})


def as_entry(entry: Entry, old: Deposed) -> Entry:
    """Return a deposed object of `entry` as an entry of its own."""
    names = ("id", "generation", "spec", "outputs", "dependencies")
    return entry.model_copy(update={**{name: getattr(old, name) for name in names}, "status": "ok", "deposed": ()})


def standing_on(entry: Entry) -> tuple[str, ...]:
    """Return the addresses that `entry` and its deposed objects stand on."""
    return tuple(dict.fromkeys((*entry.dependencies, *(address for old in entry.deposed for address in old.dependencies))))
