"""Compares the graph with the refreshed state. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from ..change import Change
from ..errors import LlmdeployError
from ..graph import Graph, topological
from ..identity import Identity
from ..resource import UNKNOWN, Ref, ReplaceWith, Resource, Tree, markers, resolve
from ..sdk import PlannedChange, ReadResult, ResourceType
from ..state.model import Entry, State
from .refresh import prior_of

Types = Mapping[str, ResourceType[Any, Any]]


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
        values = resolve(resource.values, outputs)
        planned = _planned(resource, entry, read, values, types[resource.type], renewed, resource.address in force_replace)
        change = _change(resource, entry, read, values, planned, types[resource.type], identity)
        if entry and (change.action == "replace" or (change.action == "create" and not change.resume)):
            renewed.add(resource.address)
        outputs[resource.address] = change.outputs
        changes.append(change)
    gone = {address: entry for address, entry in state.entries.items() if address not in graph}
    order = topological({address: entry.dependencies for address, entry in gone.items()})
    changes += [deletion(gone[address], reads.get(address), types) for address in reversed(order)]
    _guard(changes, graph, state)
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
    if entry is None or planned.action not in ("no-op", "update"):
        return planned
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
) -> Change:
    resume = planned.action == "create" and entry is not None and entry.status == "creating"
    new_object = planned.action in ("create", "replace") and entry is not None and not resume
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
        details=planned.details,
        generation=(entry.generation if entry else 1) + new_object,
        dependencies=tuple(sorted(resource.dependencies)),
        outputs=_outputs(planned, entry, read, values, kind, identity),
        traits=kind.traits(values),
        group=resource.group,
        path=resource.path,
    )


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
        generation=entry.generation,
        dependencies=entry.dependencies,
        traits=types[entry.type].traits(entry.spec),
    )


def _guard(changes: Collection[Change], graph: Graph, state: State) -> None:
    for change in changes:
        entry, resource = state.entries.get(change.address), graph.get(change.address)
        guarded = resource.prevent_destroy if resource else bool(entry and entry.prevent_destroy)
        if guarded and change.action in ("delete", "replace"):
            why = change.reason or "it left the stack"
            raise LlmdeployError(
                f"{change.address} is marked prevent_destroy and would be {change.action}d: {why}",
                hint="take the mark away first, or undo the change that leads to this",
            )
