"""The order of operations: a graph of nodes that are walked as they become ready."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from ..change import Change
from ..graph import GraphError, topological
from ..resource import Group

Phase = Literal["make", "delete"]


@dataclass(frozen=True, order=True)
class Node:
    """One operation: make (create, update, adopt) or delete, at an address."""

    address: str
    phase: Phase

    def __str__(self) -> str:
        return f"{self.phase} {self.address}"


class Schedule:
    """Hands out nodes whose needs are done; skips what depends on a failure.

    A replace is delete then make, or make then delete when the new object comes first. Something is deleted after everything that
    stood on it was deleted or, when it left the graph or was replaced by a new object, after those that stay were changed so that
    they no longer need it. Of a rollout group at most `max_unavailable` members are under way.
    """

    def __init__(self, changes: Iterable[Change], stored: Mapping[str, Collection[str]], out: Collection[str] = ()) -> None:
        """stored: address -> dependencies, as state has them, those of deposed objects included. out: addresses whose object may
        be out of service already; members of a rollout group that are come back before others leave.

        Raises:
            GraphError: the order has a loop, or members of one rollout group depend on each other.
        """
        self.changes = {change.address: change for change in changes}
        self._needs = _needs(self.changes, stored)
        self._rollouts = _Rollouts(self.changes, self._needs, out)
        _check_order(self._needs)
        self._dependents: dict[Node, list[Node]] = {node: [] for node in self._needs}
        for node, needs in self._needs.items():
            for need in needs:
                self._dependents[need].append(node)
        self._ready = [node for node, needs in self._needs.items() if not needs]

    def ready(self) -> list[Node]:
        """Return the nodes that became ready since the last call and have room in their group, by name."""
        wave, self._ready = sorted(self._ready), []
        return [node for node in wave if self._rollouts.enter(node)]

    def done(self, node: Node) -> None:
        """Tell that `node` ended well."""
        del self._needs[node]
        for dependent in self._dependents[node]:
            needs = self._needs.get(dependent)
            if needs is not None:
                needs.discard(node)
                if not needs:
                    self._ready.append(dependent)
        self._ready += self._rollouts.leave(node)

    def failed(self, node: Node, running: Collection[Node]) -> list[Node]:
        """Tell that `node` failed; return the nodes that can never start now, by name.

        That is what depends on it and, when it is a member of a rollout group, every member that is not under way.
        """
        self._needs.pop(node, None)
        skipped: set[Node] = set()
        waiting = [node, *(other for other in self._rollouts.close(node, running) if other in self._needs)]
        skipped |= {*waiting[1:]}
        while waiting:
            for dependent in self._dependents[waiting.pop()]:
                if dependent in self._needs and dependent not in skipped:
                    skipped.add(dependent)
                    waiting.append(dependent)
        for lost in skipped:
            del self._needs[lost]
        return sorted(skipped)

    def open(self, node: Node) -> bool:
        """Tell whether `node` is still to be done."""
        return node in self._needs

    def rest(self) -> list[Node]:
        """Return the nodes that did not start."""
        return sorted(self._needs)


class _Rollouts:
    """Who of each rollout group is under way: from the first node of a member to its last."""

    def __init__(self, changes: Mapping[str, Change], needs: Mapping[Node, set[Node]], out: Collection[str]) -> None:
        self._group: dict[str, Group] = {}
        self._members: dict[str, list[str]] = {}
        for change in changes.values():
            if change.rollout and change.action in ("update", "replace"):
                self._group[change.address] = change.rollout
                self._members.setdefault(change.rollout.name, []).append(change.address)
        self._needs = needs
        self._under_way: dict[str, set[str]] = {name: set() for name in self._members}
        self._held: dict[str, list[Node]] = {name: [] for name in self._members}
        self._first = {address: _span(changes[address])[0] for address in self._group}
        self._last = {address: _span(changes[address])[1] for address in self._group}
        lost: dict[str, list[Change]] = {}
        for change in changes.values():
            if change.rollout and change.action in ("create", "adopt") and change.address in out:
                lost.setdefault(change.rollout.name, []).append(change)
        for group in self._group.values():
            if group.max_unavailable < 1:
                raise GraphError(f"the rollout group {group.name} lets no member leave service: max_unavailable is less than 1")
        for name, members in self._members.items():
            self._check(members)
            _in_order([changes[address] for address in members], lost.get(name, []), out, needs)

    def _check(self, members: list[str]) -> None:
        for address in members if len(members) > 1 else ():
            seen: set[Node] = set()
            waiting = [node for node in self._needs if node.address == address]
            while waiting:
                fresh = self._needs[waiting.pop()] - seen
                seen |= fresh
                waiting += fresh
            others = sorted({node.address for node in seen}.intersection(members) - {address})
            if others:
                name = self._group[address].name
                raise GraphError(
                    f"{address} depends on {others[0]}, and both are members of the rollout group {name}",
                    hint="members change one after the other: what all of them stand on cannot be replaced under them",
                )

    def enter(self, node: Node) -> bool:
        """Take room for a member's first node; keep it back when there is none."""
        group = self._group.get(node.address)
        if group is None or node.address in self._under_way[group.name]:
            return True
        if len(self._under_way[group.name]) >= group.max_unavailable:
            self._held[group.name].append(node)
            return False
        self._under_way[group.name].add(node.address)
        return True

    def leave(self, node: Node) -> list[Node]:
        """Give the room of a member back after its last node; return what waited for it."""
        group = self._group.get(node.address)
        if group is None or node != self._last[node.address]:
            return []
        self._under_way[group.name].discard(node.address)
        held, self._held[group.name] = self._held[group.name], []
        return held

    def close(self, node: Node, running: Collection[Node]) -> list[Node]:
        """Return the nodes of the members of the group of `node` that did not begin: they must not start.

        One that has room and waits for a worker did not begin either.
        """
        group = self._group.get(node.address)
        if group is None:
            return []
        self._held[group.name] = []
        others = [address for address in self._members[group.name] if address != node.address]
        waiting = [address for address in others if self._first[address] in self._needs and self._first[address] not in running]
        return [Node(address, phase) for address in waiting for phase in ("make", "delete")]


def _span(change: Change) -> tuple[Node, Node]:
    """Return the first and the last node of a change that is an update or a replace."""
    make, delete = Node(change.address, "make"), Node(change.address, "delete")
    if change.action == "replace" and not change.create_first:
        return delete, make
    return make, delete if change.action == "replace" or change.deposed else make


def _in_order(members: list[Change], lost: list[Change], out: Collection[str], needs: Mapping[Node, set[Node]]) -> None:
    """Let each member start after all those of the next lower order, and the first after those that are out of service.

    lost: members that are made anew. They take no room, because they do not leave service.
    """
    by_order: dict[int, list[Change]] = {}
    for member in members:
        if member.rollout is not None and member.address not in out:
            by_order.setdefault(member.rollout.order, []).append(member)
    back = [*lost, *(member for member in members if member.address in out)]
    classes = [*([back] if back else []), *(by_order[order] for order in sorted(by_order))]
    for before, after in pairwise(classes):
        for member in after:
            needs[_span(member)[0]].update(_span(earlier)[1] for earlier in before)


def _needs(changes: Mapping[str, Change], stored: Mapping[str, Collection[str]]) -> dict[Node, set[Node]]:
    """Return what each node waits for.

    What leaves may stand on something that is replaced by deleting first, and those that stay may wait for the new object of
    that: then it cannot wait for them.
    """
    needs = _edges(changes, stored, ())
    try:
        _check_order(needs)
    except GraphError:
        needs = _edges(changes, stored, _early(changes, stored))
    return needs


def _early(changes: Mapping[str, Change], stored: Mapping[str, Collection[str]]) -> set[str]:
    """Return the addresses that are deleted before something else can be made: delete-first replaces, and what stood on them."""
    above: dict[str, list[str]] = {}
    for address, below in stored.items():
        for name in below:
            above.setdefault(name, []).append(address)
    early: set[str] = set()
    waiting = [address for address, change in changes.items() if _deletes_first(change)]
    while waiting:
        address = waiting.pop()
        if address not in early:
            early.add(address)
            waiting += [name for name in above.get(address, ()) if name in changes and changes[name].action == "delete"]
    return early


def _check_order(needs: Mapping[Node, set[Node]]) -> None:
    topological({str(node): {str(need) for need in below} for node, below in needs.items()})


def _edges(changes: Mapping[str, Change], stored: Mapping[str, Collection[str]], early: Collection[str]) -> dict[Node, set[Node]]:
    """Return what each node waits for. early: addresses whose delete does not wait for those that stay.

    The old object of a replace that deletes first never does.
    """
    needs: dict[Node, set[Node]] = {}
    for change in changes.values():
        if change.action in ("delete", "replace") or change.deposed:
            needs[Node(change.address, "delete")] = set()
        if change.action != "delete":
            needs[Node(change.address, "make")] = set()
    for change in changes.values():
        make, delete = Node(change.address, "make"), Node(change.address, "delete")
        if make in needs:
            needs[make] |= {target for name in change.dependencies if (target := Node(name, "make")) in needs}
            if _deletes_first(change):
                needs[make].add(delete)
            elif delete in needs:
                needs[delete].add(make)
        # The node after which this address no longer stands on what it stood on.
        above = delete if delete in needs and (change.action in ("delete", "replace") or change.deposed) else make
        for below in stored.get(change.address, ()):
            _delete_after(needs, changes, below, above, waits=below not in early)
    return needs


def _deletes_first(change: Change) -> bool:
    return change.action == "replace" and not change.create_first


def _delete_after(needs: dict[Node, set[Node]], changes: Mapping[str, Change], below: str, above: Node, *, waits: bool) -> None:
    """`above` stood on `below`: when `below` goes, it goes later. waits: also than those that stay."""
    target = Node(below, "delete")
    if target not in needs or above not in needs:
        return
    goes = above.phase == "delete" and changes[above.address].action in ("delete", "replace")
    # Of an address that stays and no longer needs it, only a replaced object stood on it, and that one goes.
    over = above.phase == "delete" and below not in changes[above.address].dependencies
    if goes or (waits and (over or not _deletes_first(changes[below]))):
        needs[target].add(above)
