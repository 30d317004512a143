"""Resources in an order: dependencies first."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping

from .errors import LlmdeployError
from .resource import Resource


class GraphError(LlmdeployError):
    """The graph cannot be walked: a loop, a missing target, or one address twice."""


class Graph:
    """Resources by address, checked: addresses are unique, every dependency exists, there is no loop.

    Iterating yields dependencies before dependents; among equals the order is that of the address, so it is always the same.
    """

    def __init__(self, resources: Iterable[Resource]) -> None:
        self._resources: dict[str, Resource] = {}
        for resource in resources:
            if resource.address in self._resources:
                raise GraphError(f"two resources have the address {resource.address}")
            self._resources[resource.address] = resource
        for resource in self._resources.values():
            for target in sorted(resource.dependencies):
                if target not in self._resources:
                    raise GraphError(f"{resource.address} refers to {target}, which is not in the graph")
        self._order = topological({a: r.dependencies for a, r in self._resources.items()})

    def __iter__(self) -> Iterator[Resource]:
        return (self._resources[address] for address in self._order)

    def __len__(self) -> int:
        return len(self._resources)

    def __contains__(self, address: str) -> bool:
        return address in self._resources

    def __getitem__(self, address: str) -> Resource:
        return self._resources[address]

    def get(self, address: str) -> Resource | None:
        """Return the resource at `address`, or None."""
        return self._resources.get(address)


def topological(dependencies: Mapping[str, Collection[str]]) -> list[str]:
    """Return the keys, dependencies first (Kahn's algorithm, ties by name). Dependencies that are no keys are ignored.

    Raises:
        GraphError: there is a loop; the message names it.
    """
    waiting = {node: {d for d in needs if d in dependencies} for node, needs in dependencies.items()}
    dependents: dict[str, list[str]] = {node: [] for node in dependencies}
    for node, needs in waiting.items():
        for need in needs:
            dependents[need].append(node)
    order: list[str] = []
    ready = sorted((node for node, needs in waiting.items() if not needs), reverse=True)
    while ready:
        wave = ready
        ready = list[str]()
        for node in reversed(wave):
            order.append(node)
            for dependent in dependents[node]:
                waiting[dependent].discard(node)
                if not waiting[dependent]:
                    ready.append(dependent)
        ready.sort(reverse=True)
    if len(order) < len(dependencies):
        raise GraphError(f"resources depend on each other in a loop: {' -> '.join(_loop(waiting))}")
    return order


def _loop(waiting: Mapping[str, Collection[str]]) -> list[str]:
    path = [min(node for node, needs in waiting.items() if needs)]
    while path[-1] not in path[:-1]:
        path.append(min(waiting[path[-1]]))
    return path[path.index(path[-1]) :]
