"""The bill of a stack: what each of its resources costs, equal lines put together."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ..prices import CostLine, Price, Tariff
from ..resource import Resource, Tree, resolve
from ..sdk import ResourceType

Types = Mapping[str, ResourceType[Any, Any]]
Node = tuple[str, Mapping[str, Tree]]
"""Name of a resource type, and the values of one resource of it."""


def bill(nodes: Iterable[Node], types: Types, tariff: Tariff) -> tuple[CostLine, ...]:
    """Return the lines of all resources together, the dearest first, those without a price last.

    Lines that differ only in quantity and note are one. Types that are not in `types` cost nothing that can be told.
    """
    found = (one for name, values in nodes if name in types for one in types[name].cost(values, tariff))
    return tuple(sorted(_together(found), key=_order))


def _together(lines: Iterable[CostLine]) -> Iterable[CostLine]:
    merged: dict[CostLine, list[CostLine]] = {}
    for one in lines:
        merged.setdefault(replace(one, quantity=0.0, note=""), []).append(one)
    for key, equal in merged.items():
        notes = dict.fromkeys(one.note for one in equal if one.note)
        yield replace(key, quantity=sum(one.quantity for one in equal), note="; ".join(notes))


def _order(one: CostLine) -> tuple[bool, float, float, str, str]:
    return (one.usd is None, -(one.usd_per_month or 0.0), -(one.usd_once or 0.0), one.label, one.unit)


@dataclass(frozen=True)
class Ledger:
    """All that a bill is made of but the expected usage.

    machines: resources of which every machine has its own; shared: those that the stack has once, however many machines it has.
    """

    machines: tuple[Node, ...] = ()
    shared: tuple[Node, ...] = ()
    types: Types = field(default_factory=dict[str, ResourceType[Any, Any]])
    prices: Mapping[str, Price] = field(default_factory=dict[str, Price])
    weights_bytes: int = 0

    @classmethod
    def of(
        cls,
        resources: Iterable[Resource],
        machines: Collection[str],
        types: Types,
        prices: Mapping[str, Price],
        weights_bytes: int,
    ) -> Ledger:
        """Sort the resources of a graph. machines: the groups that stand for one machine each."""
        mine: list[Node] = []
        shared: list[Node] = []
        for one in resources:
            (mine if one.group in machines else shared).append((one.type, resolve(one.values, {})))
        return cls(tuple(mine), tuple(shared), types, prices, weights_bytes)
