"""What records of a journal mean for a state. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from .journal import Record
from .model import Entry, State


def fold(state: State, records: Sequence[Record]) -> State:
    """Return the state after `records`.

    An intent without its end leaves the entry as "creating" or "updating"; a delete is planned again from what refresh finds.
    """
    entries = dict(state.entries)
    for record in records:
        _apply(record, entries)
    changed = entries != state.entries
    # Generations count from the serial; one that was used must not come again, whatever became of its object.
    used = max((int(record["entry"]["generation"]) for record in records if record["kind"] == "intent"), default=0)
    # An empty state may be taken over by a stack of another name: what the run made lies under that name.
    stack = next((record["stack"] for record in reversed(records) if record["kind"] == "begin"), state.stack)
    return replace(state, stack=stack, serial=max(state.serial + changed, used), entries=entries)


def _apply(record: Record, entries: dict[str, Entry]) -> None:
    match record["kind"]:
        case "intent" if record["action"] == "create":
            entry = Entry.model_validate(record["entry"])
            entries[entry.address] = entry.model_copy(update={"status": "creating"})
        case "intent" if record["action"] == "update":
            entry = Entry.model_validate(record["entry"])
            entries[entry.address] = entry.model_copy(update={"status": "updating"})
        case "done" | "failed":
            entry = Entry.model_validate(record["entry"])
            entries[entry.address] = entry
        case "acked":
            entries[record["address"]] = entries[record["address"]].model_copy(update={"id": record["id"]})
        case "step":
            entry = entries[record["address"]]
            entries[entry.address] = entry.model_copy(update={"steps": (*entry.steps, record["name"])})
        case "leaving":
            entries[record["address"]] = entries[record["address"]].model_copy(update={"status": "updating"})
        case "gone":
            forget(entries, record["address"], record["id"], record["generation"])
        case _:
            pass


def forget(entries: dict[str, Entry], address: str, object_id: str, generation: int) -> None:
    """Take one object out of `entries`: the one at `address`, or a deposed one."""
    entry = entries.get(address)
    if entry is None:
        return
    if (entry.id, entry.generation) == (object_id, generation):
        del entries[address]
    else:
        left = tuple(old for old in entry.deposed if (old.id, old.generation) != (object_id, generation))
        entries[address] = entry.model_copy(update={"deposed": left})
