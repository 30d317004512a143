"""The order of operations: a graph of nodes that are walked as they become ready."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from ..change import Change
from ..graph import topological

Phase = Literal["make", "delete"]


@dataclass(frozen=True, order=True)
class Node:
    """One operation: make (create or update) or delete, at an address."""

    address: str
    phase: Phase

    def __str__(self) -> str:
        return f"{self.phase} {self.address}"


class Schedule:
    """Hands out nodes whose needs are done; skips what depends on a failure.

    A replace is delete then make. Something is deleted after everything that stood on it was deleted or, when it left the graph,
    after those that stay were changed so that they no longer need it.
    """

    def __init__(self, changes: Iterable[Change], stored: Mapping[str, tuple[str, ...]]) -> None:
        """stored: address -> dependencies, as state has them."""
        self.changes = {change.address: change for change in changes}
        self._needs = _edges(self.changes, stored)
        # A loop can only come from a state that disagrees with the graph; it is found before the first effect.
        topological({str(node): {str(need) for need in needs} for node, needs in self._needs.items()})
        self._dependents: dict[Node, list[Node]] = {node: [] for node in self._needs}
        for node, needs in self._needs.items():
            for need in needs:
                self._dependents[need].append(node)
        self._ready = sorted(node for node, needs in self._needs.items() if not needs)

    def ready(self) -> list[Node]:
        """Return the nodes that became ready since the last call, by name."""
        wave, self._ready = sorted(self._ready), []
        return wave

    def done(self, node: Node) -> None:
        """Tell that `node` ended well."""
        del self._needs[node]
        for dependent in self._dependents[node]:
            needs = self._needs.get(dependent)
            if needs is not None:
                needs.discard(node)
                if not needs:
                    self._ready.append(dependent)

    def failed(self, node: Node) -> list[Node]:
        """Tell that `node` failed; return the nodes that can never start now, by name."""
        skipped: set[Node] = set()
        waiting = [node]
        while waiting:
            current = waiting.pop()
            self._needs.pop(current, None)
            for dependent in self._dependents[current]:
                if dependent in self._needs and dependent not in skipped:
                    skipped.add(dependent)
                    waiting.append(dependent)
        return sorted(skipped)

    def rest(self) -> list[Node]:
        """Return the nodes that did not start."""
        return sorted(self._needs)


def _edges(changes: Mapping[str, Change], stored: Mapping[str, tuple[str, ...]]) -> dict[Node, set[Node]]:
    needs: dict[Node, set[Node]] = {}
    for change in changes.values():
        if change.action in ("delete", "replace"):
            needs[Node(change.address, "delete")] = set()
        if change.action != "delete":
            needs[Node(change.address, "make")] = set()
    for change in changes.values():
        make, delete = Node(change.address, "make"), Node(change.address, "delete")
        if make in needs:
            needs[make] |= {target for name in change.dependencies if (target := Node(name, "make")) in needs}
        if change.action == "replace":
            needs[make].add(delete)
        for below in stored.get(change.address, ()):
            _delete_after(needs, changes, below, delete if delete in needs else make)
    return needs


def _delete_after(needs: dict[Node, set[Node]], changes: Mapping[str, Change], below: str, above: Node) -> None:
    """`above` stood on `below`: when `below` goes, it goes later."""
    target = Node(below, "delete")
    if target in needs and above in needs and (above.phase == "delete" or changes[below].action == "delete"):
        needs[target].add(above)
