"""What a stack is billed for beside its machines, from `unit_prices.json`: by provider, region and name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from typing import TypedDict

from ..prices import Price
from . import instances
from .instances import SPOT, Basis
from .shipped import table


class UnitPrice(TypedDict):
    """USD of one unit, and the key of what that rests on."""

    usd: float
    basis: str


class ProviderPrices(TypedDict):
    """The prices of one provider. units: of each name, in words. everywhere: in all regions, unless a region has its own."""

    bases: dict[str, Basis]
    units: dict[str, str]
    everywhere: dict[str, UnitPrice]
    regions: dict[str, dict[str, UnitPrice]]


def providers() -> Mapping[str, ProviderPrices]:
    """Return the tables that are shipped, by provider."""
    return table("unit_prices")["providers"]


def own_units() -> Mapping[str, str]:
    """Return the names of what only an operator knows about machines of his own, with their units."""
    return table("unit_prices")["own_units"]


def units(provider: str) -> Mapping[str, str]:
    """Return the unit of every name that a price of this provider may have, beside those of its machines."""
    known = providers().get(provider)
    return known["units"] if known else own_units()


def names(provider: str, machines: Iterable[str] = ()) -> Set[str]:
    """Return the names that a price of a provider may have: of its table, of its machines, and of `machines` beside those."""
    known = instances.providers().get(provider)
    prefix = known["price_prefix"] if known else ""
    kinds = {*(known["types"] if known else ()), *machines}
    return {*units(provider), *(f"{prefix}{kind}{end}" for kind in kinds for end in ("", SPOT))}


def shipped(provider: str, region: str | None) -> Mapping[str, Price]:
    """Return the prices in a region, by name. A region that is not in the table has only those that hold everywhere."""
    known = providers().get(provider)
    if known is None:
        return {}
    rows = {**known["everywhere"], **known["regions"].get(region or "", {})}
    return {name: _price(row, known["units"][name], known["bases"][row["basis"]]) for name, row in rows.items()}


def _price(row: UnitPrice, unit: str, basis: Basis) -> Price:
    return Price(row["usd"], unit, basis["source"], basis["as_of"], basis["confidence"])
