"""Compares the graph with the refreshed state. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from ..change import Change, Drift
from ..errors import LlmdeployError
from ..graph import Graph, topological
from ..identity import Identity
from ..resource import UNKNOWN, Ref, ReplaceWith, Resource, Tree, markers, resolve
from ..sdk import Found, ManagedType, PlannedChange, ReadResult, ResourceType
from ..state.model import Entry, State
from .recover import standing_on
from .refresh import prior_of

Types = Mapping[str, ResourceType[Any, Any]]

_FOUND = "it carries the tags of this stack and was not in the state"


def diff(
    graph: Graph,
    state: State,
    reads: Mapping[str, ReadResult],
    types: Types,
    identity: Identity,
    *,
    force_replace: Collection[str] = (),
) -> list[Change]:
    """Return one change per address of graph and state: first those of the graph, dependencies first, then deletions.

    Raises:
        LlmdeployError: a change would destroy something that is marked `prevent_destroy`.
    """
    changes: list[Change] = []
    outputs: dict[str, Mapping[str, Tree]] = {}
    renewed: set[str] = set()
    for resource in graph:
        entry, read = state.entries.get(resource.address), reads.get(resource.address)
        values = wished(resource, entry, outputs)
        read = _without(read, resource.ignore_changes) if read else None
        planned = _planned(resource, entry, read, values, types[resource.type], renewed, resource.address in force_replace)
        if resource.ignore_changes and planned.action in ("create", "replace"):
            values = resolve(resource.values, outputs)
        change = _change(resource, entry, read, values, planned, types[resource.type], identity, state.serial)
        if entry and (change.action == "replace" or (change.action == "create" and not change.resume)):
            renewed.add(resource.address)
        outputs[resource.address] = change.outputs
        changes.append(change)
    gone = {address: entry for address, entry in state.entries.items() if address not in graph}
    order = topological({address: standing_on(entry) for address, entry in gone.items()})
    changes += [deletion(gone[address], reads.get(address), types) for address in reversed(order)]
    changes = _order_replaces(changes, state, types)
    _guard(changes, graph, state)
    return changes


def wished(resource: Resource, entry: Entry | None, outputs: Mapping[str, Mapping[str, Tree]]) -> dict[str, Tree]:
    """Return the values that an object shall have; fields whose changes are ignored stay as they are in `entry`."""
    values: dict[str, Tree] = resolve(resource.values, outputs)
    kept = {name: entry.spec[name] for name in resource.ignore_changes if name in entry.spec} if entry else {}
    return {**values, **kept}


def _without(read: ReadResult, ignored: Collection[str]) -> ReadResult:
    return replace(read, drift=tuple(drift for drift in read.drift if drift.field not in ignored)) if ignored else read


def mark_found(changes: Collection[Change], found: Collection[Found], state: State) -> list[Change]:
    """Say of each change that it concerns an object which a sweep found at an address that `state` did not know."""
    ids = {one.address: one.id for one in found if one.address not in state.entries}
    marked: list[Change] = []
    for change in changes:
        if change.address in ids:
            action = "adopt" if change.action == "create" and change.resume else change.action
            change = replace(change, action=action, found=ids[change.address], reason=_FOUND)
        marked.append(change)
    return marked


def _order_replaces(changes: list[Change], state: State, types: Types) -> list[Change]:
    """Let types that can make the new object before they remove the old one, unless what they stand on goes first.

    That may come later in the list, when only the old object stands on it.
    """
    replaced = [change for change in changes if change.action == "replace"]
    below = {change.address: {*change.dependencies, *standing_on(state.entries[change.address])} for change in replaced}
    first = {change.address for change in replaced if _can_come_first(types[change.type])}
    while late := {address for address in first if not below[address].isdisjoint(below.keys() - first)}:
        first -= late
    return [replace(change, create_first=True) if change.address in first else change for change in changes]


def _can_come_first(kind: ResourceType[Any, Any]) -> bool:
    return isinstance(kind, ManagedType) and kind.create_first


def narrow(changes: Collection[Change], targets: Collection[str], state: State) -> list[Change]:
    """Return the changes of `targets` and of all that they need: what they stand on, and what must leave what goes."""
    by_address = {change.address: change for change in changes}
    above: dict[str, list[Change]] = {}
    for change in changes:
        for below in standing_on(state.entries[change.address]) if change.address in state.entries else ():
            above.setdefault(below, []).append(change)
    wanted: set[str] = set()
    waiting = [address for address in targets if address in by_address]
    while waiting:
        change = by_address[waiting.pop()]
        if change.address in wanted:
            continue
        wanted.add(change.address)
        if change.action != "delete":
            waiting += [name for name in change.dependencies if name in by_address]
        if change.action in ("delete", "replace") or change.deposed:
            # A replace that deletes first is over before those that stay are changed: they may be left for later.
            stays = change.action == "delete" or change.create_first or bool(change.deposed)
            leaving = ("delete", "replace", *(("update", "create", "adopt") if stays else ()))
            waiting += [one.address for one in above.get(change.address, ()) if one.action in leaving]
    return [change for change in changes if change.address in wanted]


def drift_only(state: State, reads: Mapping[str, ReadResult], types: Types) -> list[Change]:
    """Return a change without an action for every entry, with what was found different."""
    changes: list[Change] = []
    for address in topological({address: entry.dependencies for address, entry in state.entries.items()}):
        entry, read = state.entries[address], reads.get(address)
        drift = read.drift if read else ()
        if read is not None and not read.exists and entry.status != "creating":
            drift = (*drift, Drift("", "it is gone"))
        kept = deletion(entry, read, types)
        changes.append(replace(kept, action="no-op", reason="", after=entry.spec, drift=drift, deposed=(), outputs=entry.outputs))
    return changes


def _planned(
    resource: Resource,
    entry: Entry | None,
    read: ReadResult | None,
    values: Mapping[str, Tree],
    kind: ResourceType[Any, Any],
    renewed: Collection[str],
    forced: bool,
) -> PlannedChange:
    planned = kind.plan(prior_of(entry, read) if entry else None, values)
    if entry is None or not (planned.action in ("no-op", "update") or _goes_on(planned, entry)):
        return planned
    if entry.provider != resource.provider:
        reason = f"it is with the provider {entry.provider}, and shall be with {resource.provider}"
    else:
        reason = "asked for with --replace" if forced else _cascade(resource, kind, renewed)
    return replace(planned, action="replace", reason=reason) if reason else planned


def _cascade(resource: Resource, kind: ResourceType[Any, Any], renewed: Collection[str]) -> str:
    for name, marks in markers(kind.spec).items():
        value = resource.values.get(name)
        if isinstance(value, Ref) and value.address in renewed:
            for mark in marks:
                if isinstance(mark, ReplaceWith):
                    return mark.reason
    return ""


def _change(
    resource: Resource,
    entry: Entry | None,
    read: ReadResult | None,
    values: Mapping[str, Tree],
    planned: PlannedChange,
    kind: ResourceType[Any, Any],
    identity: Identity,
    serial: int,
) -> Change:
    resume = _goes_on(planned, entry)
    new_object = planned.action in ("create", "replace") and not resume
    _check_rollout(resource, kind)
    return Change(
        address=resource.address,
        type=resource.type,
        provider=resource.provider,
        action=planned.action,
        reason=planned.reason,
        before=entry.spec if entry else None,
        after=values,
        fields=planned.fields,
        drift=read.drift if read else (),
        resume=resume,
        in_doubt=resume and entry is not None and not entry.id,
        deposed=tuple(old.generation for old in entry.deposed) if entry else (),
        rollout=resource.rollout,
        details=planned.details,
        # No object ever has the generation of another one at its address, not even of one that the state has forgotten.
        generation=max(serial, *_generations(entry)) + 1 if new_object or entry is None else entry.generation,
        dependencies=tuple(sorted(resource.dependencies)),
        outputs=_outputs(planned, entry, read, values, kind, identity),
        traits=kind.traits(values),
        group=resource.group,
        path=resource.path,
    )


def _goes_on(planned: PlannedChange, entry: Entry | None) -> bool:
    """Tell whether a create is one that was interrupted."""
    return planned.action == "create" and entry is not None and entry.status == "creating"


def _generations(entry: Entry | None) -> tuple[int, ...]:
    return (entry.generation, *(old.generation for old in entry.deposed)) if entry else (0,)


def _check_rollout(resource: Resource, kind: ResourceType[Any, Any]) -> None:
    group = resource.rollout
    for name in (group.exit, group.enter, group.gate) if group else ():
        if name is not None and name not in kind.operations:
            raise LlmdeployError(f"{resource.address} rolls out with the operation {name}, which {resource.type} does not have")


def _outputs(
    planned: PlannedChange,
    entry: Entry | None,
    read: ReadResult | None,
    values: Mapping[str, Tree],
    kind: ResourceType[Any, Any],
    identity: Identity,
) -> dict[str, Tree]:
    names = kind.outputs.model_fields
    known = dict(read.outputs if read and read.outputs is not None else entry.outputs if entry else {})
    if planned.action == "no-op":
        return known
    fresh = planned.action in ("create", "replace")
    kept = {name: UNKNOWN if fresh or name in kind.changing_outputs else known.get(name, UNKNOWN) for name in names}
    return {**kept, **kind.predict(values, identity)}


def deletion(entry: Entry, read: ReadResult | None, types: Types) -> Change:
    """Return the change that removes what `entry` stands for."""
    return Change(
        address=entry.address,
        type=entry.type,
        provider=entry.provider,
        action="delete",
        reason="" if read is None or read.exists else "it is gone already",
        before=entry.spec,
        drift=read.drift if read else (),
        in_doubt=entry.status == "creating" and not entry.id,
        deposed=tuple(old.generation for old in entry.deposed),
        generation=entry.generation,
        dependencies=entry.dependencies,
        traits=types[entry.type].traits(entry.spec),
    )


def _guard(changes: Collection[Change], graph: Graph, state: State) -> None:
    for change in changes:
        entry, resource = state.entries.get(change.address), graph.get(change.address)
        guarded = resource.prevent_destroy if resource else bool(entry and entry.prevent_destroy)
        if guarded and entry and any(generation > entry.generation for generation in change.deposed):
            raise LlmdeployError(
                f"{change.address} is marked prevent_destroy, and a newer object of it is there that the state does not know",
                hint="the state is older than what exists: restore the newest one, or take the mark away",
            )
        if guarded and change.action in ("delete", "replace"):
            why = change.reason or "it left the stack"
            raise LlmdeployError(
                f"{change.address} is marked prevent_destroy and would be {change.action}d: {why}",
                hint="take the mark away first, or undo the change that leads to this",
            )
